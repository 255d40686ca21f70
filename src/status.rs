//! One table of status codes: number, name and sentence. Everything else is derived from it: the Rust enum, the
//! constants, the text functions of the C ABI and the `#define` lines of the header. Numbers are fixed and never reused.

macro_rules! statuses {
    ($($variant:ident $constant:ident = $code:literal, $text:literal;)*) => {
        /// The outcome of a call or the reason of a close.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[repr(i32)]
        pub enum Status {
            $(#[doc = $text] $variant = $code,)*
        }

        $(#[doc = $text] pub const $constant: i32 = $code;)*

        /// Every status: number, name, sentence (with a NUL at the end of name and sentence, for C).
        pub const STATUS_TABLE: &[(i32, &str, &str)] = &[
            $(($code, concat!(stringify!($constant), "\0"), concat!($text, "\0")),)*
        ];

        impl Status {
            /// Every status, in the order of the table.
            pub const ALL: &'static [Status] = &[$(Status::$variant,)*];
        }
    };
}

statuses! {
    Ok WHARF_OK = 0, "done";
    InvalidArgument WHARF_E_INVALID_ARGUMENT = -1, "an argument is NULL, out of range or malformed: see the function's documentation";
    Stale WHARF_E_STALE = -2, "the handle names nothing that lives now: it was closed or destroyed, or was never valid";
    WrongKind WHARF_E_WRONG_KIND = -3, "the handle names an object of another kind: pass the handle that this function asks for";
    State WHARF_E_STATE = -4, "the object is not in a state that allows this call: see the function's documentation";
    QueueFull WHARF_E_QUEUE_FULL = -5, "the connection's send queue has no room for this send: wait for on_writable";
    PoolExhausted WHARF_E_POOL_EXHAUSTED = -6, "the engine's buffer pool has no room for this send: wait for on_writable or raise pool_bytes";
    Limit WHARF_E_LIMIT = -7, "the request is larger than a configured bound allows: split it or raise the bound";
    Timeout WHARF_E_TIMEOUT = -8, "the deadline passed first";
    WouldDeadlock WHARF_E_WOULD_DEADLOCK = -9, "a blocking call on the thread that must do the work would wait for itself: use the callbacks there";
    Closed WHARF_E_CLOSED = -10, "the connection's sending side is closed";
    EndOfStream WHARF_E_END_OF_STREAM = -11, "the peer has sent all that it will send";
    Reset WHARF_E_RESET = -12, "the peer reset the connection";
    Refused WHARF_E_REFUSED = -13, "nobody listens at the address, or the peer refused the connection";
    Unreachable WHARF_E_UNREACHABLE = -14, "no route leads to the address";
    AddressInUse WHARF_E_ADDRESS_IN_USE = -15, "another socket holds the address: stop it or choose another port";
    AddressNotAvailable WHARF_E_ADDRESS_NOT_AVAILABLE = -16, "the address does not belong to this machine";
    Permission WHARF_E_PERMISSION = -17, "the system does not permit it to this process";
    Resolve WHARF_E_RESOLVE = -18, "the name could not be resolved to an address";
    TooManyFiles WHARF_E_TOO_MANY_FILES = -19, "the process or the system has no descriptor left: raise RLIMIT_NOFILE";
    NoMemory WHARF_E_NO_MEMORY = -20, "the system has no memory left for this";
    Idle WHARF_E_IDLE = -21, "nothing arrived and nothing left for longer than the idle timeout";
    SendStalled WHARF_E_SEND_STALLED = -22, "the peer took no queued byte for longer than the send-stall timeout";
    Stopped WHARF_E_STOPPED = -23, "the server, client or engine was stopped";
    Unsupported WHARF_E_UNSUPPORTED = -24, "this build, port or system does not support it";
    Os WHARF_E_OS = -25, "the system reported an error that has no code here: see os_code";
    Panic WHARF_E_PANIC = -26, "a fault inside the library was contained: please report it";
    FirstByte WHARF_E_FIRST_BYTE = -27, "the peer sent nothing within the first-byte timeout";
    Forked WHARF_E_FORKED = -28, "this process was made by fork: the library belongs to its parent; exec first, or fork before you use it";
    TooSlow WHARF_E_TOO_SLOW = -29, "the peer sent more slowly than min_receive_bytes_per_s";
}

impl Status {
    /// The number that crosses the C ABI.
    pub fn code(self) -> i32 {
        self as i32
    }

    /// The status with this number, if there is one.
    pub fn from_code(code: i32) -> Option<Status> {
        Status::ALL.iter().copied().find(|status| status.code() == code)
    }

    /// The name of its constant, as in `WHARF_E_QUEUE_FULL`.
    pub fn name(self) -> &'static str {
        self.row().1.trim_end_matches('\0')
    }

    /// One sentence that says what it means and what to do.
    pub fn text(self) -> &'static str {
        self.row().2.trim_end_matches('\0')
    }

    fn row(self) -> &'static (i32, &'static str, &'static str) {
        let place = Status::ALL.iter().position(|status| *status == self).unwrap_or(0);
        &STATUS_TABLE[place]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_unique_and_the_table_agrees_with_the_enum() {
        for (place, status) in Status::ALL.iter().enumerate() {
            assert_eq!(STATUS_TABLE[place].0, status.code());
            assert_eq!(Status::from_code(status.code()), Some(*status), "number used twice: {}", status.name());
            assert!(status.name().starts_with("WHARF_") && !status.text().is_empty());
        }
        assert_eq!(Status::from_code(-9999), None);
    }
}
