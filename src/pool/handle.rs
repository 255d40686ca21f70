//! Handles: 64-bit numbers that name an object without being its address.
//!
//! ```text
//! 63..60  kind         engine, server, client, connection (and a dial, which never leaves the library)
//! 59..52  engine       place of the engine in the registry, 0..=255
//! 51..32  index        place of the object in its engine, 0..=1_048_575
//! 31..0   generation   goes up each time the place is used again
//! ```
//! Zero is never a handle: no kind is 0.

/// What a handle names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// An engine.
    Engine = 1,
    /// A server.
    Server = 2,
    /// A client.
    Client = 3,
    /// A connection of either side.
    Connection = 4,
    /// A connect under way; used as a key of the port only.
    Dial = 5,
}

/// The largest index, and so the largest number of objects of a kind in one engine, less one.
pub const MAX_INDEX: u32 = (1 << 20) - 1;

/// A handle, taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Handle {
    /// What it names.
    pub kind: Kind,
    /// Place of the engine in the registry.
    pub engine: u8,
    /// Place of the object in the engine.
    pub index: u32,
    /// Which use of that place.
    pub generation: u32,
}

impl Handle {
    /// The number that users hold.
    #[inline]
    pub fn to_bits(self) -> u64 {
        (self.kind as u64) << 60
            | u64::from(self.engine) << 52
            | u64::from(self.index & MAX_INDEX) << 32
            | u64::from(self.generation)
    }

    /// The number of the kind in a number that may be a handle.
    #[inline]
    pub fn kind_of(bits: u64) -> u64 {
        bits >> 60
    }

    /// The index in a number that may be a handle.
    #[inline]
    pub fn index_of(bits: u64) -> u32 {
        (bits >> 32) as u32 & MAX_INDEX
    }

    /// The generation in a number that may be a handle.
    #[inline]
    pub fn generation_of(bits: u64) -> u32 {
        bits as u32
    }

    /// The place of the engine in a number that may be a handle.
    #[inline]
    pub fn engine_of(bits: u64) -> u8 {
        (bits >> 52) as u8
    }

    /// Takes a number apart; None when its kind is none of ours.
    #[inline]
    pub fn from_bits(bits: u64) -> Option<Handle> {
        let kind = match Handle::kind_of(bits) {
            1 => Kind::Engine,
            2 => Kind::Server,
            3 => Kind::Client,
            4 => Kind::Connection,
            5 => Kind::Dial,
            _ => return None,
        };
        Some(Handle {
            kind,
            engine: Handle::engine_of(bits),
            index: Handle::index_of(bits),
            generation: Handle::generation_of(bits),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_survives_the_round_trip_and_zero_is_none() {
        for kind in [Kind::Engine, Kind::Server, Kind::Client, Kind::Connection, Kind::Dial] {
            let handle = Handle { kind, engine: 255, index: MAX_INDEX, generation: u32::MAX };
            assert_eq!(Handle::from_bits(handle.to_bits()), Some(handle));
        }
        assert_eq!(Handle::from_bits(0), None);
        assert_eq!(Handle::from_bits(u64::MAX), None);
    }
}
