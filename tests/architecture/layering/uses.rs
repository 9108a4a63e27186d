//! The rooms that a source names in its paths.

/// The rooms that `text` names, with their lines: after `crate::`, after `procstar::` in the
/// program, and after `super::` that leads to the crate's root. `modules` is the module path of the
/// file.
pub fn uses(text: &str, modules: &[String]) -> Vec<(usize, String)> {
    let tokens = tokens(text);
    let mut found = Vec::new();
    // For each open inline module, the number of open braces outside it.
    let (mut inline, mut braces) = (Vec::new(), 0);
    let mut at = 0;
    while at < tokens.len() {
        let word = |ahead: usize| tokens.get(at + ahead).map_or("", |(_, token)| token.as_str());
        let mut step = 1;
        match word(0) {
            "{" => braces += 1,
            "}" => {
                braces -= 1;
                inline.retain(|outside| *outside < braces);
            }
            "mod" if word(2) == "{" => {
                inline.push(braces);
                braces += 1;
                step = 3;
            }
            "crate" if word(1) == "::" => found.extend(named(&tokens, at + 2)),
            // Only the program uses the library by its name.
            "procstar" if word(1) == "::" && modules == ["main"] => {
                found.extend(named(&tokens, at + 2));
            }
            "super" => {
                let mut climbed = 1;
                while word(2 * climbed) == "super" {
                    climbed += 1;
                }
                if climbed >= modules.len() + inline.len() && word(2 * climbed - 1) == "::" {
                    found.extend(named(&tokens, at + 2 * climbed));
                }
                step = 2 * climbed;
            }
            _ => {}
        }
        // The braces of a group of paths are counted by the next steps.
        at += step;
    }
    found
}

/// The first name of the path that begins at the token `at`, or of each path of a group.
fn named(tokens: &[(usize, String)], at: usize) -> Vec<(usize, String)> {
    let Some((line, first)) = tokens.get(at) else { return Vec::new() };
    if first != "{" {
        return vec![(*line, first.clone())];
    }
    let (mut depth, mut begins, mut found) = (0, true, Vec::new());
    for (line, token) in &tokens[at..] {
        match token.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            "," if depth == 1 => begins = true,
            name if begins && depth == 1 => {
                found.push((*line, name.to_owned()));
                begins = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    found
}

/// Words, `::` and single characters with their lines, without comments, strings and white space.
pub fn tokens(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let (mut rest, mut line) = (text, 1);
    while let Some(first) = rest.chars().next() {
        let length = match first {
            _ if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            _ if rest.starts_with("/*") => block_comment(rest),
            '"' => string(rest),
            'r' if raw_string(rest).is_some() => raw_string(rest).unwrap(),
            'b' if rest[1..].starts_with('r') && raw_string(&rest[1..]).is_some() => {
                1 + raw_string(&rest[1..]).unwrap()
            }
            '\'' => character(rest),
            _ if first.is_whitespace() => first.len_utf8(),
            _ if is_in_word(first) => {
                let end = rest.find(|character| !is_in_word(character)).unwrap_or(rest.len());
                found.push((line, rest[..end].to_owned()));
                end
            }
            _ => {
                let end = if rest.starts_with("::") { 2 } else { first.len_utf8() };
                found.push((line, rest[..end].to_owned()));
                end
            }
        };
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    found
}

fn is_in_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// The length of the comment that `text` begins with, including nested comments.
fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().unwrap().len_utf8();
        }
    }
    at
}

/// The length of the string that `text` begins with.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of the raw string that `text` begins with; none if it does not begin with one.
fn raw_string(text: &str) -> Option<usize> {
    let hashes = text[1..].chars().take_while(|character| *character == '#').count();
    let body = text[1 + hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = body.find(&end).map_or(body.len(), |at| at + end.len());
    Some(2 + hashes + length)
}

/// The length of the character literal that `text` begins with; 1 for the quote of a lifetime.
fn character(text: &str) -> usize {
    let mut characters = text.char_indices().skip(1);
    match characters.next() {
        Some((_, '\\')) => text[3..].find('\'').map_or(text.len(), |at| 3 + at + 1),
        Some(_) => match characters.next() {
            Some((at, '\'')) => at + 1,
            _ => 1,
        },
        None => 1,
    }
}
