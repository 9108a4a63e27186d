//! Text that cannot control a terminal.

/// Whether a character would control a terminal, or change the order of the shown text.
pub(super) fn is_order(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Text that cannot control a terminal: control characters are shown as `\n`, `\x1b`, `\u{202e}`.
pub(super) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => shown.push_str("\\n"),
            '\t' => shown.push_str("\\t"),
            '\r' => shown.push_str("\\r"),
            c if is_order(c) && u32::from(c) < 0x100 => {
                shown.push_str(&format!("\\x{:02x}", u32::from(c)));
            }
            c if is_order(c) => shown.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            c => shown.push(c),
        }
    }
    shown
}

/// Equivalent JSON that cannot control a terminal: such characters occur only in strings.
pub(super) fn printable_json(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\n' => shown.push(c),
            c if is_order(c) => shown.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_get_no_orders() {
        assert_eq!(printable("a\x1b[2Jb\n\u{9b}ä\u{202e}"), "a\\x1b[2Jb\\n\\x9bä\\u{202e}");
        let json = serde_json::to_string("\u{7f}\u{9b}\u{202e}\"\\x").unwrap();
        let shown = printable_json(&json);
        assert_eq!(shown, r#""\u007f\u009b\u202e\"\\x""#);
        assert_eq!(
            serde_json::from_str::<String>(&shown).unwrap(),
            serde_json::from_str::<String>(&json).unwrap()
        );
    }
}
