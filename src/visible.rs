//! Everything that a page shows passes through here: askama calls it for each value in a template.
//!
//! Beside what HTML gives a meaning, characters are escaped that nobody sees: control characters, and those that turn the
//! direction of writing around. An index or an upstream chooses many of these texts, and nobody shall be fooled by them.

use std::fmt::{self, Write};

use askama::filters::Escaper;

/// Escapes for HTML texts and quoted attributes.
#[derive(Clone, Copy, Debug)]
pub struct Visible;

impl Escaper for Visible {
    fn write_escaped_str<W: Write>(&self, mut page: W, text: &str) -> fmt::Result {
        let mut plain = 0;
        for (at, letter) in text.char_indices().filter(|(_, letter)| !is_plain(*letter)) {
            page.write_str(&text[plain..at])?;
            plain = at + letter.len_utf8();
            match letter {
                '&' => page.write_str("&#38;")?,
                '<' => page.write_str("&#60;")?,
                '>' => page.write_str("&#62;")?,
                '"' => page.write_str("&#34;")?,
                '\'' => page.write_str("&#39;")?,
                _ => write!(page, "{}", letter.escape_unicode())?,
            }
        }
        page.write_str(&text[plain..])
    }
}

fn is_plain(letter: char) -> bool {
    match letter {
        '&' | '<' | '>' | '"' | '\'' => false,
        '\n' | '\t' => true,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' => false,
        _ => !letter.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &str) -> String {
        let mut page = String::new();
        Visible.write_escaped_str(&mut page, text).unwrap();
        page
    }

    #[test]
    fn markup_is_text() {
        assert_eq!(escaped("<b title='\"'>&amp;</b>"), "&#60;b title=&#39;&#34;&#39;&#62;&#38;amp;&#60;/b&#62;");
        assert_eq!(escaped("cfg(unix), größer\n\tals 1"), "cfg(unix), größer\n\tals 1");
    }

    #[test]
    fn what_nobody_would_see_is_seen() {
        assert_eq!(escaped("a\u{0}b\u{1b}[31m\r\u{202e}c\u{feff}"), "a\\u{0}b\\u{1b}[31m\\u{d}\\u{202e}c\\u{feff}");
    }
}
