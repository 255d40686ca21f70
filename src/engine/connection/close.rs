//! How strongly a connection is asked to end.

/// How a connection is closed; stronger ways override weaker ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Close {
    /// Queued bytes leave, then FIN; receiving goes on (half-close).
    SendSide = 1,
    /// Queued bytes leave, then FIN, then wait for the peer's FIN or the linger deadline.
    Flush = 2,
    /// The same, and its time is up: what has bytes queued is reset; what has none is closed behind its FIN, and what has
    /// arrived is thrown away before, so that the close does not reset it. How owners end what is theirs.
    Due = 3,
    /// Drop the queue, hand over what has come already, and close: the end of a connection that broke, or whose deadline
    /// has passed. Not for users.
    Drain = 4,
    /// Drop the queue and close.
    Now = 5,
    /// Drop the queue and send RST.
    Reset = 6,
}
