/* Tells ThreadSanitizer of the locks of Rust's standard library, which is not instrumented.

   The uncontended way of std::sync::Mutex, RwLock and Once is inlined into instrumented code, so ThreadSanitizer sees it; the
   contended way is a function of the library, and it does not. The linker puts these functions around those
   (-Wl,--wrap=NAME; tools/sanitize.sh finds the names): each does what the real one does and says what that means. They
   take nothing away: only what such a lock orders is ordered. */
#include <stdbool.h>
#include <stdint.h>

void __tsan_acquire(void *address);
void __tsan_release(void *address);

#define REAL_(name) __real_##name
#define REAL(name) REAL_(name)
#define WRAP_(name) __wrap_##name
#define WRAP(name) WRAP_(name)

/* Locks: what was done before the lock was released is seen. The first word of each is the futex. */
#define TAKES(name)                \
  void REAL(name)(void *lock);     \
  void WRAP(name)(void *lock);     \
  void WRAP(name)(void *lock) {    \
    REAL(name)(lock);              \
    __tsan_acquire(lock);          \
  }
TAKES(MUTEX_LOCK)
TAKES(RWLOCK_READ)
TAKES(RWLOCK_WRITE)

/* A wait lets the mutex go and takes it again. */
void REAL(CONDVAR_WAIT)(void *condvar, void *mutex);
void WRAP(CONDVAR_WAIT)(void *condvar, void *mutex);
void WRAP(CONDVAR_WAIT)(void *condvar, void *mutex) {
  __tsan_release(mutex);
  REAL(CONDVAR_WAIT)(condvar, mutex);
  __tsan_acquire(mutex);
}

bool REAL(CONDVAR_WAIT_TIMEOUT)(void *condvar, void *mutex, uint64_t seconds, uint32_t nanoseconds);
bool WRAP(CONDVAR_WAIT_TIMEOUT)(void *condvar, void *mutex, uint64_t seconds, uint32_t nanoseconds);
bool WRAP(CONDVAR_WAIT_TIMEOUT)(void *condvar, void *mutex, uint64_t seconds, uint32_t nanoseconds) {
  bool in_time;
  __tsan_release(mutex);
  in_time = REAL(CONDVAR_WAIT_TIMEOUT)(condvar, mutex, seconds, nanoseconds);
  __tsan_acquire(mutex);
  return in_time;
}

/* A scoped thread that ends: what it did is seen when std::thread::scope returns. Which word of the three is the counter is
   the compiler's choice. */
void REAL(SCOPED_THREAD_ENDS)(void *scope, bool panicked);
void WRAP(SCOPED_THREAD_ENDS)(void *scope, bool panicked);
void WRAP(SCOPED_THREAD_ENDS)(void *scope, bool panicked) {
  uint64_t *words = scope;
  __tsan_release(words);
  __tsan_release(words + 1);
  __tsan_release(words + 2);
  REAL(SCOPED_THREAD_ENDS)(scope, panicked);
}

/* The last drop of an Arc is a fetch_sub(Release) and then fence(Acquire). ThreadSanitizer knows no fences, so the
   fetch_sub acquires, too. */
uint64_t __real___tsan_atomic64_fetch_sub(volatile uint64_t *address, uint64_t value, int order);
uint64_t __wrap___tsan_atomic64_fetch_sub(volatile uint64_t *address, uint64_t value, int order);
uint64_t __wrap___tsan_atomic64_fetch_sub(volatile uint64_t *address, uint64_t value, int order) {
  return __real___tsan_atomic64_fetch_sub(address, value, order == __ATOMIC_RELEASE ? __ATOMIC_ACQ_REL : order);
}
