//! Threads of the library: signals belong to the host program, but for those that tell of a fault of the thread itself.

use std::io;
use std::mem::MaybeUninit;
use std::thread::{Builder, JoinHandle};

/// What a thread raises by a fault of its own: the host's crash handler must see it where it happens. A blocked one ends
/// the process without a word (signal(7), sigprocmask(2)).
const FAULTS: [libc::c_int; 7] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGABRT, libc::SIGSYS];

/// Starts a thread that has every signal blocked but those of faults, with a stack of so many bytes, rounded up to whole
/// pages; 0: as large as that of any thread that the C library starts.
pub fn spawn(name: String, stack_bytes: usize, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let stack_bytes = if stack_bytes == 0 { default_stack_bytes() } else { stack_bytes };
    let mut builder = Builder::new().name(name);
    if stack_bytes > 0 {
        builder = builder.stack_size(stack_bytes.next_multiple_of(page_bytes()));
    }
    with_signals_blocked(|| {
        builder.spawn(|| {
            unblock_faults();
            run();
        })
    })
}

/// Calls with every signal blocked but those of faults: a thread that is started meanwhile inherits that
/// (pthread_sigmask(3)), so no handler of the host ever runs on it. The calling thread's own mask is restored.
pub fn with_signals_blocked<R>(call: impl FnOnce() -> R) -> R {
    let before = mask(libc::SIG_BLOCK, &all_but_faults());
    // Restored when the call panics, too.
    struct Restore(libc::sigset_t);
    impl Drop for Restore {
        fn drop(&mut self) {
            mask(libc::SIG_SETMASK, &self.0);
        }
    }
    let _restore = Restore(before);
    call()
}

/// The thread that started this one may have had them blocked.
fn unblock_faults() {
    let mut faults = MaybeUninit::uninit();
    // SAFETY: sigemptyset fills the set, sigaddset changes it; both only touch the set that they are given.
    let faults = unsafe {
        libc::sigemptyset(faults.as_mut_ptr());
        FAULTS.iter().for_each(|signal| _ = libc::sigaddset(faults.as_mut_ptr(), *signal));
        faults.assume_init()
    };
    mask(libc::SIG_UNBLOCK, &faults);
}

fn all_but_faults() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigfillset fills the set, sigdelset changes it; both only touch the set that they are given.
    unsafe {
        libc::sigfillset(set.as_mut_ptr());
        FAULTS.iter().for_each(|signal| _ = libc::sigdelset(set.as_mut_ptr(), *signal));
        set.assume_init()
    }
}

/// Changes the mask of the calling thread; gives the one before.
fn mask(how: libc::c_int, set: &libc::sigset_t) -> libc::sigset_t {
    let mut before = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: `set` is a set that was filled and `before` has room for one; both outlive the call, which only touches the
    // mask of this thread. A set of zeroes is a valid one.
    unsafe {
        libc::pthread_sigmask(how, set, before.as_mut_ptr());
        before.assume_init()
    }
}

/// The stack of a thread for which nothing else is said: on Linux RLIMIT_STACK as it was when the program began
/// (pthread_create(3)). 0 where the system does not tell.
fn default_stack_bytes() -> usize {
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    let mut bytes = 0;
    // SAFETY: pthread_attr_init fills the attributes, which are read only when it did, and given back once.
    unsafe {
        if libc::pthread_attr_init(attributes.as_mut_ptr()) != 0 {
            return 0;
        }
        if libc::pthread_attr_getstacksize(attributes.as_ptr(), &mut bytes) != 0 {
            bytes = 0;
        }
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
    }
    bytes
}

fn page_bytes() -> usize {
    // SAFETY: it reads a number of the system.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).ok().filter(|bytes| *bytes > 0).unwrap_or(4096)
}
