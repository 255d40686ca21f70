//! A send, on its way down.

/// What a send brings.
pub struct Outgoing<'a> {
    /// The bytes, in pieces.
    pub slices: &'a [&'a [u8]],
    /// The length of all slices.
    pub len: usize,
    /// 0: `on_sent` is not wanted.
    pub token: u64,
}

impl<'a> Outgoing<'a> {
    /// Adds the lengths up.
    pub fn new(slices: &'a [&'a [u8]], token: u64) -> Outgoing<'a> {
        Outgoing { slices, len: slices.iter().fold(0_usize, |sum, slice| sum.saturating_add(slice.len())), token }
    }
}
