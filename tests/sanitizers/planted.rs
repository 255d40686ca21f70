//! A fault of each kind, to see that a tool is really on: planted use-after-free | leak | race.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

struct Shared(*mut u64);
// SAFETY: none; it is the fault.
unsafe impl Send for Shared {}

impl Shared {
    fn write(self) {
        for _ in 0..1000 {
            // SAFETY: none; it is the fault.
            unsafe { *self.0 = black_box(*self.0 + 1) };
        }
    }
}

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("use-after-free") => {
            let memory = Box::into_raw(Box::new(7_u64));
            // SAFETY: none; it is the fault.
            unsafe {
                drop(Box::from_raw(memory));
                black_box(*black_box(memory));
            }
        }
        Some("leak") => {
            std::mem::forget(black_box(vec![1_u8; 4321]));
        }
        Some("race") => {
            let memory = Box::into_raw(Box::new(0_u64));
            let threads = [(); 2].map(|()| {
                let shared = Shared(memory);
                std::thread::spawn(move || shared.write())
            });
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        }
        // What is right and must not be reported: locks that are waited for, scoped threads, the last drop of an Arc.
        Some("none") => {
            let sum = Arc::new((std::sync::Mutex::new(0_u64), std::sync::Condvar::new(), AtomicU32::new(0)));
            let threads = [(); 4].map(|()| {
                let sum = sum.clone();
                std::thread::spawn(move || {
                    for _ in 0..5_000 {
                        *sum.0.lock().unwrap() += 1;
                        sum.1.notify_all();
                    }
                    sum.2.fetch_add(1, Relaxed);
                })
            });
            let all = sum.1.wait_while(sum.0.lock().unwrap(), |sum| *sum < 20_000).unwrap();
            assert_eq!(*all, 20_000);
            drop(all);
            drop(sum);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            let mut parts = [0_u64; 4];
            std::thread::scope(|scope| {
                for part in &mut parts {
                    scope.spawn(move || *part = 1);
                }
            });
            assert_eq!(parts.iter().sum::<u64>(), 4);
        }
        other => panic!("no such fault: {other:?}"),
    }
}
