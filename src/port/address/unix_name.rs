//! Names of Unix sockets as text: any bytes, in characters that can be printed, and read back.

use std::fmt;

/// A name as it is printed. What no text can hold - bytes that are no UTF-8, control characters, zero bytes - is written
/// as `\xHH`, and so is a backslash that would be read as the beginning of that.
pub(super) struct Printed<'a>(pub &'a [u8]);

impl fmt::Display for Printed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            let text = chunk.valid();
            for (at, c) in text.char_indices() {
                let bytes = &text.as_bytes()[at..];
                if c.is_control() || escaped_byte(bytes).is_some() {
                    write_escaped(f, &bytes[..c.len_utf8()])?;
                } else {
                    fmt::Write::write_char(f, c)?;
                }
            }
            write_escaped(f, chunk.invalid())?;
        }
        Ok(())
    }
}

/// Each byte in hexadecimal.
pub(super) fn write_escaped(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))
}

/// The byte that `\xHH` at the beginning of these bytes stands for.
fn escaped_byte(bytes: &[u8]) -> Option<u8> {
    let [b'\\', b'x', high, low, ..] = bytes else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    Some((digit(*high)? * 16 + digit(*low)?) as u8)
}

/// The bytes of a name that is written as [`Printed`] prints it; a backslash that begins nothing is one.
pub(super) fn read(text: &str) -> Vec<u8> {
    let mut rest = text.as_bytes();
    let mut name = Vec::with_capacity(rest.len());
    while let Some(first) = rest.first() {
        let (byte, taken) = escaped_byte(rest).map_or((*first, 1), |byte| (byte, 4));
        name.push(byte);
        rest = &rest[taken..];
    }
    name
}
