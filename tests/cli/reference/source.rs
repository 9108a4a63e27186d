//! Reading Rust sources: string literals, and the arguments of calls.

/// Source text without its unit tests, its comments replaced by nothing.
pub fn without_tests(source: &str) -> &str {
    let end = source.find("#[cfg(test)]\nmod ").unwrap_or(source.len());
    &source[..end]
}

/// Removes line comments, also documentation.
pub fn without_comments(source: &str) -> String {
    let code = |line: &&str| !line.trim_start().starts_with("//");
    source.lines().filter(code).map(|line| format!("{line}\n")).collect()
}

/// A string literal after its opening quote, up to its end, its escapes resolved.
pub fn unescaped(literal: &str) -> String {
    let (mut text, mut chars) = (String::new(), literal.chars());
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => match chars.next() {
                Some('n') => text.push(' '),
                Some('\n') => chars = chars.as_str().trim_start().chars(),
                Some(other) => text.push(other),
                None => break,
            },
            other => text.push(other),
        }
    }
    text
}

/// The offset after a string literal whose opening quote is at `at`.
fn after_literal(code: &str, at: usize) -> usize {
    let mut escaped = false;
    for (offset, c) in code[at + 1..].char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1 + offset + 1,
            _ => {}
        }
    }
    code.len()
}

/// Whether the quote at `at` is that of a character, as in `'"'`.
fn is_character(code: &str, at: usize) -> bool {
    code[..at].ends_with('\'') || code[..at].ends_with("'\\")
}

/// The expressions between the bracket that ends just before `start` and its counterpart, and the
/// offset of the counterpart.
pub fn arguments(code: &str, start: usize) -> (Vec<&str>, usize) {
    let (mut all, mut depth, mut from, mut at) = (Vec::new(), 0, start, start);
    while let Some(c) = code[at..].chars().next() {
        match c {
            '"' if !is_character(code, at) => {
                at = after_literal(code, at);
                continue;
            }
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => break,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                all.push(code[from..at].trim());
                from = at + 1;
            }
            _ => {}
        }
        at += c.len_utf8();
    }
    all.push(code[from..at].trim());
    all.retain(|argument| !argument.is_empty());
    (all, at)
}

/// The arguments of each call whose text begins with `opening`, which ends with a bracket; with the
/// call's offset.
pub fn calls<'a>(code: &'a str, opening: &str) -> Vec<(usize, Vec<&'a str>)> {
    let starts = code.match_indices(opening).filter(|(at, _)| {
        let before = code[..*at].chars().next_back();
        opening.starts_with('.') || before.is_none_or(|c| !c.is_alphanumeric() && c != '_')
    });
    starts.map(|(at, _)| (at, arguments(code, at + opening.len()).0)).collect()
}

/// All string literals of a piece of code.
pub fn literals(code: &str) -> Vec<String> {
    let (mut all, mut at) = (Vec::new(), 0);
    while let Some(quote) = code[at..].find('"').map(|found| at + found) {
        if is_character(code, quote) {
            at = quote + 1;
            continue;
        }
        all.push(unescaped(&code[quote + 1..]));
        at = after_literal(code, quote);
    }
    all
}

/// The functions of a source: signature and body.
pub fn functions(code: &str) -> Vec<(&str, &str)> {
    let starts = code
        .match_indices("fn ")
        .filter(|(at, _)| code[..*at].chars().next_back().is_none_or(|c| c == ' ' || c == '\n'));
    starts
        .filter_map(|(at, _)| {
            let open = at + code[at..].find('{')?;
            // A declaration without a body.
            let signature = &code[at..open];
            if signature.contains(';') && !signature.contains('[') {
                return None;
            }
            let (_, end) = arguments(code, open + 1);
            Some((signature, &code[open + 1..end]))
        })
        .collect()
}

/// A format string with `…` for what is put in, fit for a table's cell in backticks.
pub fn shown(text: &str) -> String {
    let (mut shown, mut depth) = (String::new(), 0);
    let text = text.replace("{{", "\u{1}").replace("}}", "\u{2}");
    for c in text.chars() {
        match c {
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                shown.push('…');
            }
            other if depth == 0 => shown.push(other),
            _ => {}
        }
    }
    let shown = shown.replace('\u{1}', "{").replace('\u{2}', "}").replace('|', "\\|");
    shown.replace('`', "'").split_whitespace().collect::<Vec<_>>().join(" ")
}
