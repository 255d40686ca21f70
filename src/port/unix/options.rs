//! Socket options.

use std::io;
use std::mem::size_of;

use crate::port::StreamOptions;

/// Sets one option.
#[inline]
pub(super) fn set<T: Copy>(raw: i32, level: libc::c_int, name: libc::c_int, value: T) -> io::Result<()> {
    // SAFETY: pointer and length are those of `value`, which lives for the call and is only read.
    let result =
        unsafe { libc::setsockopt(raw, level, name, (&raw const value).cast(), size_of::<T>() as libc::socklen_t) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads an option that is a number.
pub(in crate::port) fn get(raw: i32, level: libc::c_int, name: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `value`; both live for the call.
    let result = unsafe { libc::getsockopt(raw, level, name, (&raw mut value).cast(), &raw mut length) };
    if result == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

/// Takes the error that waits on a socket (SO_ERROR); None when there is none.
pub(super) fn take_error(raw: i32) -> Option<io::Error> {
    match get(raw, libc::SOL_SOCKET, libc::SO_ERROR) {
        Ok(0) => None,
        Ok(code) => Some(io::Error::from_raw_os_error(code)),
        Err(error) => Some(error),
    }
}

/// The drop of this socket will send RST; what waits to be sent is thrown away.
pub(in crate::port) fn reset_on_close(raw: i32) {
    // Without the option the close is a clean one: there is nothing better to do about a failure.
    let _ = set(raw, libc::SOL_SOCKET, libc::SO_LINGER, libc::linger { l_onoff: 1, l_linger: 0 });
}

/// Sets what the user chose for a stream. Unix sockets have no TCP options; that is no error.
pub(super) fn set_stream_options(raw: i32, options: &StreamOptions) -> io::Result<()> {
    if !options.delay {
        tcp(set(raw, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1 as libc::c_int))?;
    }
    if options.keepalive_s > 0 {
        set(raw, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1 as libc::c_int)?;
        set_keepalive(raw, options)?;
    }
    for (name, bytes) in [(libc::SO_SNDBUF, options.send_buffer_bytes), (libc::SO_RCVBUF, options.receive_buffer_bytes)]
    {
        if bytes > 0 {
            set(raw, libc::SOL_SOCKET, name, int(bytes))?;
        }
    }
    Ok(())
}

/// OpenBSD knows keepalive times for the whole system only.
#[cfg(target_os = "openbsd")]
fn set_keepalive(_raw: i32, _options: &StreamOptions) -> io::Result<()> {
    Ok(())
}

#[cfg(not(target_os = "openbsd"))]
fn set_keepalive(raw: i32, options: &StreamOptions) -> io::Result<()> {
    #[cfg(target_vendor = "apple")]
    const SILENCE: libc::c_int = libc::TCP_KEEPALIVE;
    #[cfg(not(target_vendor = "apple"))]
    const SILENCE: libc::c_int = libc::TCP_KEEPIDLE;
    for (name, value) in [
        (SILENCE, options.keepalive_s),
        (libc::TCP_KEEPINTVL, options.keepalive_interval_s),
        (libc::TCP_KEEPCNT, options.keepalive_probes),
    ] {
        if value > 0 {
            tcp(set(raw, libc::IPPROTO_TCP, name, int(value)))?;
        }
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    set_user_timeout(raw, options.keepalive_s)?;
    Ok(())
}

/// While bytes are under way the system sends no probes, and gives a peer that vanished up only after many minutes (tcp(7),
/// tcp_retries2): the same time as for probes is set for them (TCP_USER_TIMEOUT).
#[cfg(any(target_os = "linux", target_os = "android"))]
fn set_user_timeout(raw: i32, silence_s: u32) -> io::Result<()> {
    // A Unix socket has none of these.
    let ask = |name| get(raw, libc::IPPROTO_TCP, name).map(|value| u64::try_from(value).unwrap_or(0));
    let (Ok(interval_s), Ok(probes)) = (ask(libc::TCP_KEEPINTVL), ask(libc::TCP_KEEPCNT)) else { return Ok(()) };
    let ms = (u64::from(silence_s) + interval_s * probes) * 1000;
    tcp(set(raw, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, ms.min(libc::c_int::MAX as u64) as libc::c_int))
}

fn int(value: u32) -> libc::c_int {
    value.min(libc::c_int::MAX as u32) as libc::c_int
}

/// Asking each socket for its family would cost a system call; a Unix socket tells by its answer. Apple's systems answer
/// EINVAL when the peer is gone already, which the first receive tells better.
fn tcp(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) => match error.raw_os_error() {
            Some(libc::EOPNOTSUPP | libc::ENOPROTOOPT) => Ok(()),
            Some(libc::EINVAL) if cfg!(target_vendor = "apple") => Ok(()),
            _ => Err(error),
        },
        ok => ok,
    }
}
