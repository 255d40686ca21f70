//! Tells the compiler which way a branch goes on the way of a message, so that this way is laid out straight, its
//! functions are inlined, and what is rare is elsewhere. `std::hint` has nothing of the kind for every version of Rust
//! that can build this.

#[cold]
#[inline]
fn rare() {}

/// The condition, which is nearly always true.
#[inline(always)]
pub fn likely(condition: bool) -> bool {
    if !condition {
        rare();
    }
    condition
}

/// The condition, which is hardly ever true.
#[inline(always)]
pub fn unlikely(condition: bool) -> bool {
    if condition {
        rare();
    }
    condition
}
