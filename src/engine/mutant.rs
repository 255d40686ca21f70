//! Classic bugs that can be put back, one at a time, to show that the simulation finds them. Without the feature
//! `simulation` this is nothing.

/// A bug.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Mutant {
    /// An accept that fails does not give its place and permit back.
    PermitLost = 1,
    /// A block goes back to the pool while its bytes wait for the kernel.
    BlockInFlight = 2,
    /// A place that is used again keeps its generation, so old handles reach the new connection.
    StaleHandle = 3,
    /// The edge that tells of room is not acted upon.
    LostWritable = 4,
    /// `on_close` is called twice after a reset.
    CloseTwice = 5,
    /// A close in a callback forgets what the callback had sent.
    CorkLost = 6,
    /// The last connection of a stopping server does not tell the drain that it is gone.
    EndlessDrain = 7,
    /// A client connects again with hardly a pause.
    ReconnectStorm = 8,
    /// What came behind the message in which the user paused is forgotten by the layer.
    RestForgotten = 9,
    /// Blocks that were held for the receives of a wait are not given back.
    HeldBlocksLost = 10,
    /// What came before a reset or a send that failed is thrown away.
    UnreadThrownAway = 11,
    /// Any connection, however short, ends the growth of a client's pauses.
    ReconnectFlap = 12,
}

#[cfg(feature = "simulation")]
std::thread_local! {
    /// The bug of this thread's engines (0: none).
    static SWITCHED_ON: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

/// Switches one on for the engines that this thread turns (0: none).
#[cfg(feature = "simulation")]
pub fn switch_on(mutant: u32) {
    SWITCHED_ON.set(mutant);
}

/// Whether a bug is switched on.
#[cfg(feature = "simulation")]
pub fn is_on(mutant: Mutant) -> bool {
    SWITCHED_ON.get() == mutant as u32
}

/// Never.
#[cfg(not(feature = "simulation"))]
#[inline(always)]
pub fn is_on(_mutant: Mutant) -> bool {
    false
}
