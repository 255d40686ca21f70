//! Log lines are made on the stack: logging allocates nothing.

use std::fmt;

const LINE_BYTES: usize = 400;

/// One line of text, cut when it is too long.
pub struct Line {
    bytes: [u8; LINE_BYTES],
    len: usize,
}

impl Default for Line {
    fn default() -> Line {
        Line { bytes: [0; LINE_BYTES], len: 0 }
    }
}

impl Line {
    /// What was written.
    pub fn text(&self) -> &str {
        // Only whole characters are written, so this cannot fail; an empty line would be the worst.
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut end = text.len().min(LINE_BYTES - self.len);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.bytes[self.len..self.len + end].copy_from_slice(&text.as_bytes()[..end]);
        self.len += end;
        if end == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    #[test]
    fn a_line_that_is_too_long_is_cut_at_a_character() {
        let mut line = Line::default();
        assert!(write!(line, "x{}", "ä".repeat(300)).is_err());
        assert_eq!(line.text().chars().count(), 200);
    }
}
