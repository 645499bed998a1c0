//! A line of a log, with a bounded length and without hidden characters.
//!
//! **Invariant: text from a user or a peer is logged as one line of at most [`MOST`] bytes, without characters that end a
//! line, change the direction of the text or are invisible.** People read a log line in terminals, and programs split logs
//! at line ends. Quoted text must not mislead them.

/// The most bytes of a line.
pub const MOST: usize = 4096;

/// The end of a line that was cut because it was too long.
const CUT: &str = " [cut]";

/// Ranges of characters that are replaced by a space, in addition to the control characters: Unicode's categories Cf
/// (format), Zl and Zp (line and paragraph separators), in ascending order.
const HIDDEN: [(char, char); 21] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{600}', '\u{605}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{6dd}', '\u{6dd}'),
    ('\u{70f}', '\u{70f}'),
    ('\u{890}', '\u{891}'),
    ('\u{8e2}', '\u{8e2}'),
    ('\u{180e}', '\u{180e}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{fff9}', '\u{fffb}'),
    ('\u{110bd}', '\u{110bd}'),
    ('\u{110cd}', '\u{110cd}'),
    ('\u{13430}', '\u{1343f}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e007f}'),
    // These are not characters, and no font shows them.
    ('\u{fffe}', '\u{ffff}'),
    ('\u{10fffe}', '\u{10ffff}'),
];

/// Whether a character is replaced in a line.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || (!c.is_ascii()
            && HIDDEN
                .iter()
                .any(|(first, last)| (*first..=*last).contains(&c)))
}

/// `text` as one line of at most [`MOST`] bytes. A hidden character becomes a space, and the end is cut if it is too long.
#[inline(never)]
pub fn line(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(MOST));
    for c in text.chars() {
        let c = if is_hidden(c) { ' ' } else { c };
        let room = MOST.saturating_sub(CUT.len());
        if out.len().saturating_add(c.len_utf8()) > room && text.len() > MOST {
            out.push_str(CUT);
            break;
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visible_characters_stay_and_hidden_ones_become_a_space() {
        assert_eq!(line("münchen, 東京 and é"), "münchen, 東京 and é");
        for c in [
            '\n',
            '\r',
            '\t',
            '\0',
            '\u{1b}',
            '\u{7f}',
            '\u{85}',
            '\u{2028}',
            '\u{2029}',
            '\u{200b}',
            '\u{200e}',
            '\u{200f}',
            '\u{202a}',
            '\u{202e}',
            '\u{2066}',
            '\u{2069}',
            '\u{feff}',
            '\u{ad}',
            '\u{61c}',
            '\u{e0041}',
        ] {
            assert_eq!(line(&format!("a{c}b")), "a b", "{c:?}");
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_between_two_characters_and_says_so() {
        for c in ["x", "ü", "東", "😀", "\u{202e}"] {
            for more in 0..8 {
                let text = format!("{}{}", "x".repeat(more), c.repeat(MOST));
                let line = line(&text);
                assert!(line.len() <= MOST, "{} bytes", line.len());
                // A space is shorter than the character that it replaces, so the line may fit.
                assert!(line.ends_with(CUT) || line.chars().count() == text.chars().count());
            }
        }
        let whole = "x".repeat(MOST);
        assert_eq!(line(&whole), whole);
    }
}
