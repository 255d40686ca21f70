/*
 * wharf.h - A bounded, pooled TCP engine - server and client - behind a C ABI.
 *
 * Version 0.1.0. License: MIT OR Apache-2.0. Made from the sources; do not edit.
 */

/*
 * Conventions
 *
 * Handles. Everything is named by 64-bit numbers: wharf_engine, wharf_server, wharf_client, wharf_conn. They are never
 * pointers. 0 (WHARF_NONE) names nothing. A handle that is stale (its object is gone), forged or 0 gives
 * WHARF_E_STALE, one of another kind WHARF_E_WRONG_KIND; never a crash, and never another object. So there is no
 * reference counting: a call on a connection that ended a moment ago fails, and that is all.
 *
 * Status. Every function returns a wharf_status: WHARF_OK (0) or a negative WHARF_E_* number; only the texts and the
 * version come back directly. Numbers are fixed: new ones are added, none is ever changed or used again. A function
 * that fails has changed nothing, unless it says otherwise. Any function may also return WHARF_E_PANIC: a fault inside
 * the library was contained; please report it. Functions that can fail for the world's reasons take a wharf_error for
 * the details; it may be NULL.
 *
 * Structs. Every struct but wharf_slice begins with struct_size: set it to sizeof that struct. A field that is zero
 * means its default, so {0} with a size is always a good beginning. A program that was compiled with an older header
 * passes a shorter struct, and the fields that it does not know have their defaults; one that was compiled with a
 * newer header may set only fields that this library knows: anything else is WHARF_E_INVALID_ARGUMENT, as is a
 * struct_size that was not set. Where the library fills a struct it writes no more than struct_size bytes. Fields
 * named reserved must be zero. Flag bits and constants that the library does not know are WHARF_E_INVALID_ARGUMENT.
 *
 * Results. Pointers named out, or after what they receive, are yours. What they point to is set to 0 first and to the
 * result on success. NULL is WHARF_E_INVALID_ARGUMENT, unless it says "may be NULL".
 *
 * Strings. In: UTF-8 with a NUL at the end, at most 4095 bytes before it unless it says otherwise; copied, so they may
 * go away at once. Out: (buf, len, needed). The text is written to buf, cut at a whole character if len is too small
 * (then the status is WHARF_E_LIMIT), and always terminated if len is not 0. needed receives how many bytes the whole
 * text takes, its NUL included; it may be NULL. With buf NULL and len 0 only needed is set, and the status is WHARF_OK.
 *
 * Addresses. IP: "192.0.2.7:80", "[2001:db8::7]:80"; a link-local one has its zone, "[fe80::7%eth0]:80" or by the
 * number of the interface, "[fe80::7%3]:80". Unix: "unix:/run/x.sock", "unix:@name" in the abstract namespace of
 * Linux. What is told (in functions, in on_admit, in log lines) is in the same form and can be dialled: zones are told
 * as numbers; in the name of a Unix socket \xHH stands for a byte, and is told for what no text can hold (bytes that
 * are no UTF-8, control characters, zero bytes). "unix:" alone is a Unix socket without a name, which nobody can dial.
 *
 * Time. Milliseconds, on a monotonic clock. WHARF_FOREVER for calls that wait.
 *
 * Threads. Any function may be called from any thread and from inside any callback, unless it says otherwise.
 * Functions with "wait" in their name block; inside a callback, or on the thread that turns a caller-driven engine,
 * they would wait for themselves and return WHARF_E_WOULD_DEADLOCK instead. wharf_engine_destroy blocks on a thread of
 * yours and returns at once inside a callback of the same engine. No function may be called in a signal handler.
 *
 * Fork. Once a process has used the library, it cannot be used in the children that fork(2) makes of that process until
 * they exec: every function returns WHARF_E_FORKED there at once and touches nothing but the wharf_error that it was
 * given. The parent goes on as if nothing had happened. Texts, version and wharf_engine_footprint work in a child, too.
 * Descriptors are close-on-exec; until a child execs or ends, it keeps connections open that its parent has closed. A
 * child that was forked inside a callback must exec or _exit there and not return from it. vfork(2), _Fork(3) and
 * clone(2) are not noticed: after them, call nothing. A process that has not used the library may fork, and its
 * children use it, each on its own.
 *
 * Callbacks. A server asks on_admit before there is a connection, if you want to be asked. Each connection belongs to
 * one worker. Its callbacks never run at the same time and come in this order: on_open; any of on_receive, on_sent,
 * on_writable, on_end; on_close exactly once; then nothing. With one worker (the default) no two callbacks of the
 * engine ever run at the same time. No callback ever runs inside a call of yours, so you may hold a lock of your own
 * while you call and take it in callbacks; only wharf_engine_turn, and wharf_engine_destroy of a caller-driven engine,
 * run callbacks inside. A callback that takes long delays the other connections of its worker. Neither a C++ exception
 * nor a longjmp may leave a callback.
 *
 * Ownership. What you pass is copied, handlers and texts included; bytes that you send are yours again when the call
 * returns. Bytes that on_receive gets live for that call. You own the engines, servers and clients that you create,
 * and destroy them; destroying an engine destroys what is in it. The context of a handler is yours until the create
 * succeeds, and again in on_drop, the last call of all: free it there. If a create fails, on_drop is not called.
 *
 * Bounds. Connections never exceed max_connections, queued bytes of one connection never exceed
 * send_queue_limit_bytes, and those of all together never exceed pool_bytes. At a bound the caller is told: a send is
 * taken whole or not at all.
 */

#ifndef WHARF_H
#define WHARF_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif


/*
 * ====================================================================================================
 * Handles and common constants.
 *
 * A handle is a number that names an object: kind, engine, place and generation in 64 bits. It is never a pointer.
 * Copy it, keep it in a table, hand it to another thread, print it. The handle of something that is gone gives
 * WHARF_E_STALE, the handle of another kind WHARF_E_WRONG_KIND; neither is ever a crash, and neither ever reaches
 * another object that happens to use the same place now.
 */

/** No object. Every kind of handle may hold it; no object ever has it. */
#define WHARF_NONE 0

/**
 * Where an engine is asked for: the engine with default settings that the whole process shares. It is made on first
 * use. wharf_engine_destroy takes it down like any other; the next use makes a new one.
 */
#define WHARF_DEFAULT_ENGINE 0

/** For the timeout_ms of the calls that wait: wait for ever. */
#define WHARF_FOREVER UINT32_MAX

/**
 * For the flags of a server or client: leave Nagle's algorithm on (RFC 896), which delays small sends to merge them.
 * It is off by default (TCP_NODELAY).
 */
#define WHARF_TCP_DELAY 256

/** What a call gives back: WHARF_OK (0), or one of the negative WHARF_E_* numbers. */
typedef int32_t wharf_status;

/** Names an engine. From wharf_engine_create; or WHARF_DEFAULT_ENGINE. */
typedef uint64_t wharf_engine;

/** Names a server. From wharf_server_create. */
typedef uint64_t wharf_server;

/** Names a client. From wharf_client_create. */
typedef uint64_t wharf_client;

/** Names a connection of either side. You never make one: on_open hands it to you, and after on_close it is stale. */
typedef uint64_t wharf_conn;


/*
 * ====================================================================================================
 * Errors in words.
 *
 * Every number has a name and a sentence. Functions that can fail for the world's reasons - an address in use, a name
 * that does not resolve - also take a wharf_error, which tells the details. There is no "last error" of a thread.
 */

/** done */
#define WHARF_OK 0
/** an argument is NULL, out of range or malformed: see the function's documentation */
#define WHARF_E_INVALID_ARGUMENT (-1)
/** the handle names nothing that lives now: it was closed or destroyed, or was never valid */
#define WHARF_E_STALE (-2)
/** the handle names an object of another kind: pass the handle that this function asks for */
#define WHARF_E_WRONG_KIND (-3)
/** the object is not in a state that allows this call: see the function's documentation */
#define WHARF_E_STATE (-4)
/** the connection's send queue has no room for this send: wait for on_writable */
#define WHARF_E_QUEUE_FULL (-5)
/** the engine's buffer pool has no room for this send: wait for on_writable or raise pool_bytes */
#define WHARF_E_POOL_EXHAUSTED (-6)
/** the request is larger than a configured bound allows: split it or raise the bound */
#define WHARF_E_LIMIT (-7)
/** the deadline passed first */
#define WHARF_E_TIMEOUT (-8)
/** a blocking call on the thread that must do the work would wait for itself: use the callbacks there */
#define WHARF_E_WOULD_DEADLOCK (-9)
/** the connection's sending side is closed */
#define WHARF_E_CLOSED (-10)
/** the peer has sent all that it will send */
#define WHARF_E_END_OF_STREAM (-11)
/** the peer reset the connection */
#define WHARF_E_RESET (-12)
/** nobody listens at the address, or the peer refused the connection */
#define WHARF_E_REFUSED (-13)
/** no route leads to the address */
#define WHARF_E_UNREACHABLE (-14)
/** another socket holds the address: stop it or choose another port */
#define WHARF_E_ADDRESS_IN_USE (-15)
/** the address does not belong to this machine */
#define WHARF_E_ADDRESS_NOT_AVAILABLE (-16)
/** the system does not permit it to this process */
#define WHARF_E_PERMISSION (-17)
/** the name could not be resolved to an address */
#define WHARF_E_RESOLVE (-18)
/** the process or the system has no descriptor left: raise RLIMIT_NOFILE */
#define WHARF_E_TOO_MANY_FILES (-19)
/** the system has no memory left for this */
#define WHARF_E_NO_MEMORY (-20)
/** nothing arrived and nothing left for longer than the idle timeout */
#define WHARF_E_IDLE (-21)
/** the peer took no queued byte for longer than the send-stall timeout */
#define WHARF_E_SEND_STALLED (-22)
/** the server, client or engine was stopped */
#define WHARF_E_STOPPED (-23)
/** this build, port or system does not support it */
#define WHARF_E_UNSUPPORTED (-24)
/** the system reported an error that has no code here: see os_code */
#define WHARF_E_OS (-25)
/** a fault inside the library was contained: please report it */
#define WHARF_E_PANIC (-26)
/** the peer sent nothing within the first-byte timeout */
#define WHARF_E_FIRST_BYTE (-27)
/** this process was made by fork: the library belongs to its parent; exec first, or fork before you use it */
#define WHARF_E_FORKED (-28)
/** the peer sent more slowly than min_receive_bytes_per_s */
#define WHARF_E_TOO_SLOW (-29)

/**
 * What went wrong, in detail. Yours: put it on the stack, set struct_size, pass its address (or NULL if you do not
 * care). Functions that take one fill it whenever they return: on success status is 0 and message is empty. A
 * struct_size smaller than that of this struct (0, for instance) leaves it untouched.
 */
typedef struct wharf_error {
  /** sizeof(wharf_error). Set it before the call. */
  size_t struct_size;
  /** The same number that the function returned. */
  wharf_status status;
  /** The system's error number (errno), or 0 when the failure is not the system's. */
  int32_t os_code;
  /** What was tried, what went wrong, what to do. UTF-8, always NUL-terminated, cut at a whole character. */
  char message[256];
} wharf_error;

/**
 * The name of a status, as in "WHARF_E_QUEUE_FULL".
 *
 * status: any number. For one that this library does not know it is "WHARF_E_UNKNOWN".
 *
 * The text is static: never NULL, never to be freed. Any thread, any callback.
 */
const char *wharf_status_name(wharf_status status);

/**
 * One sentence that says what a status means and, where there is something to do, what to do.
 *
 * status: any number. For one that this library does not know the sentence says so.
 *
 * The text is static: never NULL, never to be freed. Any thread, any callback.
 */
const char *wharf_status_text(wharf_status status);


/*
 * ====================================================================================================
 * Version.
 *
 * WHARF_VERSION_NUMBER is the version of the header that you compiled against, wharf_version() that of the library
 * that you run with. Within one major version a newer library serves programs that were made for an older one (from
 * 1.0.0 on; before that, within one minor version).
 */

/** The version of this header: major * 1000000 + minor * 1000 + patch. */
#define WHARF_VERSION_NUMBER 1000
/** The same as text. */
#define WHARF_VERSION_TEXT "0.1.0"

/**
 * The version of the library that runs: major * 1000000 + minor * 1000 + patch. Compare it with WHARF_VERSION_NUMBER.
 *
 * Any thread, any callback.
 */
uint32_t wharf_version(void);

/**
 * The same as text, as in "1.2.3". The text is static: never to be freed.
 *
 * Any thread, any callback.
 */
const char *wharf_version_text(void);


/*
 * ====================================================================================================
 * Engine: memory, bounds and threads.
 *
 * An engine sets aside everything that its servers and clients will need - places for connections, the buffer pool,
 * receive buffers - and never goes past it. In the steady state (connections open, messages flowing) it allocates
 * nothing.
 *
 * Worker threads (the default): the engine owns its threads, named wharf-0, wharf-1 ..., with all signals blocked but
 * those of faults (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS).
 * Caller-driven (WHARF_ENGINE_CALLER_DRIVEN): no threads; your thread calls wharf_engine_turn, and every callback runs
 * inside that call.
 */

/** For wharf_engine_config.workers: one worker for each core that the process may use. */
#define WHARF_WORKERS_ONE_A_CORE UINT32_MAX
/** For wharf_engine_config.flags: no threads, you call wharf_engine_turn. */
#define WHARF_ENGINE_CALLER_DRIVEN 1
/** For wharf_engine_config.flags: wharf_engine_set_faults works. For tests only: such an engine is slower. */
#define WHARF_ENGINE_FAULTS 2
/** For wharf_engine_config.port: the fastest that the system has. */
#define WHARF_PORT_AUTO 0
/** For wharf_engine_config.port: epoll(7); Linux only. */
#define WHARF_PORT_EPOLL 1
/** For wharf_engine_config.port: the portable one (kqueue, event ports, poll). */
#define WHARF_PORT_POLLING 2
/** Level of a log line: something was lost or will not work. */
#define WHARF_LOG_ERROR 1
/** Level of a log line: a bound was met, or something took too long. */
#define WHARF_LOG_WARNING 2
/** Level of a log line: servers and clients start and stop. */
#define WHARF_LOG_INFO 3
/** Level of a log line: each connection. */
#define WHARF_LOG_DEBUG 4

/**
 * A log line.
 *
 * - context: log_context of the engine's configuration
 * - level: WHARF_LOG_ERROR ... WHARF_LOG_DEBUG
 * - message: one line of UTF-8 without a line break; lives for the call
 *
 * Called on workers only (or inside a turn); with several workers, on several threads at once. A call that takes long
 * delays the connections of its worker. The function and its context must stay good until wharf_engine_destroy has
 * returned on a thread of yours.
 *
 * Of lines that a peer, or a trouble that stays, could make floods of - refused connections of each reason, accepts
 * and connects that fail, slow callbacks, faults - an engine makes at most 10 of each kind a second; the next one of
 * the kind says how many were left out. The statistics count them all. No lock of the engine is held meanwhile: call
 * what you like.
 */
typedef void (*wharf_on_log)(void *context, int32_t level, const char *message);

/** How an engine is made. Zero everywhere but in struct_size is a good beginning. */
typedef struct wharf_engine_config {
  /** sizeof(wharf_engine_config). */
  size_t struct_size;
  /**
   * Worker threads: 1 to 256, or WHARF_WORKERS_ONE_A_CORE. 0: one; then no two callbacks of the engine ever run at
   * the same time. With more, that holds for the callbacks of one connection only. Ignored when caller-driven.
   */
  uint32_t workers;
  /** WHARF_ENGINE_* bits. */
  uint32_t flags;
  /** Connections of all servers and clients together: 1 to 1048575. 0: 1024. */
  uint32_t max_connections;
  /**
   * Size of one block of the pool in bytes: 256 to 1048576, a multiple of 64. 0: 4096. A connection with something
   * to send holds whole blocks; an idle one holds none.
   */
  uint32_t buffer_bytes;
  /**
   * Size of the whole pool in bytes: at least one block, at most 64 GiB. 0: 16 MiB. All bytes that wait to be sent,
   * of all connections, are in it.
   */
  uint64_t pool_bytes;
  /**
   * Size of each worker's receive buffer in bytes, and so the most that one on_receive hands over: 1024 to 16777216.
   * 0: 57344.
   */
  uint32_t receive_buffer_bytes;
  /** WHARF_PORT_*: how the engine waits for the system. */
  uint32_t port;
  /**
   * Callbacks that take longer than this are counted (slow_callbacks of the statistics) and logged: milliseconds.
   * 0: 100.
   */
  uint32_t slow_callback_ms;
  /** The least important level that on_log wants: WHARF_LOG_*. 0: WHARF_LOG_INFO. */
  int32_t log_level;
  /** Where log lines go. NULL: nowhere. */
  wharf_on_log on_log;
  /** The first argument of on_log. Stays yours. */
  void *log_context;
  /**
   * Threads on which host names are resolved, because the system's resolver blocks: 1 to 64. 0: 2. They are started
   * when the first client with a name is made, also when caller-driven; an engine without one has none. Named
   * wharf-dns-0 ...; signals are blocked in them as in workers.
   */
  uint32_t resolver_threads;
  /**
   * The stack of each worker thread, on which your callbacks run, in bytes: 65536 to 1073741824, rounded up to whole
   * pages. 0: as large as that of any thread of pthread_create (on Linux with glibc RLIMIT_STACK, usually 8 MiB).
   */
  uint32_t worker_stack_bytes;
} wharf_engine_config;

/**
 * Tells how many bytes of heap an engine of this configuration sets aside, without making it.
 *
 * - config: the configuration, or NULL for the defaults
 * - bytes: receives the number
 *
 * Errors:
 * - WHARF_E_INVALID_ARGUMENT: bytes is NULL, or a field is out of range (wharf_engine_create says which)
 *
 * Any thread, any callback.
 */
wharf_status wharf_engine_footprint(const wharf_engine_config *config, uint64_t *bytes);

/**
 * Makes an engine: sets its memory aside and starts its threads.
 *
 * - config: the configuration, or NULL for the defaults; copied
 * - out: receives the engine, or 0
 * - error: receives the details; may be NULL
 *
 * You own the engine: end it with wharf_engine_destroy. A process has at most 255 besides WHARF_DEFAULT_ENGINE.
 *
 * Errors:
 * - WHARF_E_INVALID_ARGUMENT: out is NULL, or a field of config is out of range; the message names it
 * - WHARF_E_LIMIT: 255 engines live already
 * - WHARF_E_TOO_MANY_FILES, WHARF_E_NO_MEMORY, WHARF_E_OS: the system has no descriptors, memory or threads left
 * - WHARF_E_UNSUPPORTED: this system does not have the chosen port
 *
 * Any thread, any callback.
 */
wharf_status wharf_engine_create(const wharf_engine_config *config, wharf_engine *out, wharf_error *error);

/**
 * Takes one turn of a caller-driven engine: waits until something happens, and makes the callbacks that are due.
 *
 * - engine: a caller-driven engine
 * - timeout_ms: how long to wait at most, in milliseconds; 0: do what is due and never wait; -1: for ever
 * - completions: receives how many things happened (0: none; the time was up, wharf_engine_wake was called, or the
 *   engine had something to do of its own); may be NULL
 *
 * Make one turn after you started something, before you wait on wharf_engine_fd for the first time. Threads may take
 * turns one after another, but not two at once. A signal does not end the turn: its handler runs, and the wait goes on
 * for the time that is left. A host that wants to act upon a signal has another thread call wharf_engine_wake, gives a
 * timeout, or watches wharf_engine_fd beside a descriptor that its handler writes to.
 *
 * Errors:
 * - WHARF_E_INVALID_ARGUMENT: timeout_ms is below -1
 * - WHARF_E_STATE: the engine has worker threads, or another thread is in a turn of it
 * - WHARF_E_WOULD_DEADLOCK: called inside a callback of this engine
 * - WHARF_E_LIMIT: called inside callbacks of 8 other engines, each turned inside a callback of the one before
 * - WHARF_E_STALE, WHARF_E_WRONG_KIND: no engine has this handle
 * - WHARF_E_OS: the engine's descriptors were closed behind its back. Its connections have ended with WHARF_E_OS, and
 *   it can only be destroyed; until then each turn makes the callbacks that are due, waits as it was told, and says so
 *
 * Callbacks run inside this call, and only inside it (and inside wharf_engine_destroy).
 */
wharf_status wharf_engine_turn(wharf_engine engine, int32_t timeout_ms, uint32_t *completions);

/**
 * Gives the descriptor of a caller-driven engine that is readable when a turn is due: for I/O, for a deadline, or
 * because another thread asked for something. Watch it in a loop of your own (poll, epoll, libuv, GLib, Qt, asyncio).
 *
 * - engine: a caller-driven engine
 * - fd: receives the descriptor, or -1 when the call fails
 *
 * Watch it level-triggered or edge-triggered, as your loop does: a turn that leaves something to do makes a new edge,
 * so one turn for each edge is enough. The descriptor is the engine's: do not read from it, write to it or close it;
 * stop watching it before wharf_engine_destroy.
 *
 * Errors:
 * - WHARF_E_INVALID_ARGUMENT: fd is NULL
 * - WHARF_E_STATE: the engine has worker threads
 * - WHARF_E_STALE, WHARF_E_WRONG_KIND: no engine has this handle
 * - WHARF_E_UNSUPPORTED, WHARF_E_OS: the port has no such descriptor, or the system refused it, or it was closed behind
 *   the engine's back
 *
 * Any thread, any callback.
 */
wharf_status wharf_engine_fd(wharf_engine engine, int *fd);

/**
 * Ends the wait of a turn that is under way, or of the next one. Harmless on an engine with threads.
 *
 * - engine: the engine
 *
 * Errors:
 * - WHARF_E_STALE, WHARF_E_WRONG_KIND: no engine has this handle
 *
 * Any thread, any callback. Not in a signal handler; there, write to a descriptor that your loop watches.
 */
wharf_status wharf_engine_wake(wharf_engine engine);

/**
 * Ends an engine: stops its servers and clients, lets queued bytes leave for at most deadline_ms, resets what is left,
 * makes the last callbacks (every on_close, then every on_drop), ends the threads and gives all memory back.
 *
 * - engine: the engine; with WHARF_DEFAULT_ENGINE the shared one, and its next use makes a new one
 * - deadline_ms: how long queued bytes may take, in milliseconds; 0: close everything at once
 *
 * On a thread of yours it blocks until all of that is done; afterwards no callback runs and all its handles are stale.
 * In a callback of the same engine it returns at once and the end goes on behind. On a caller-driven engine it takes
 * the last turns itself, so callbacks run inside it. Calling it again while it goes on is allowed and can only shorten
 * the deadline.
 *
 * Errors:
 * - WHARF_E_STALE, WHARF_E_WRONG_KIND: no engine has this handle (any more)
 *
 * Any thread, any callback.
 */
wharf_status wharf_engine_destroy(wharf_engine engine, uint32_t deadline_ms);


/*
 * ====================================================================================================
 * Handler: how the engine tells you what happens.
 *
 * One struct of functions and one context, given when a server or client is made. It is copied; the struct may go away
 * at once. Any function may be NULL; for two of them that changes what the engine does:
 * - without on_receive its connections are in pull mode: bytes stay in the kernel until wharf_receive_wait asks for
 *   them;
 * - without on_end a connection is closed, queued bytes first, when the peer ends its side.
 *
 * A server may be asked for its consent before there is a connection: on_admit.
 *
 * The callbacks of one connection never run at the same time. They come in this order: on_open; then on_receive,
 * on_sent, on_writable and on_end as things happen; then on_close, exactly once; then nothing. They run on worker
 * threads, or inside wharf_engine_turn of a caller-driven engine - never inside another call of yours. A C++ exception
 * or a longjmp must not leave a callback: it would cross frames that do not know of it.
 */

/** For the result of on_admit: the connection is reset, and counted as refused_by_host. */
#define WHARF_ADMIT_REFUSE 0
/** For the result of on_admit: the connection is let in. */
#define WHARF_ADMIT_ACCEPT 1

/**
 * Whether a peer is let in. A server asks for each connection that its lists and its rate let in, before there is a
 * connection: it has no handle yet, and a refused one never gets one, nor any other callback. Not called for clients.
 *
 * - context: the handler's
 * - peer_address: as wharf_conn_peer_address tells it, with a NUL at the end; lives for the call
 * - len: its length, without the NUL
 *
 * Returns WHARF_ADMIT_ACCEPT to let it in; anything else (0, which a failed callback of many languages returns)
 * refuses it. Whether it then finds a place is for max_connections and max_connections_per_ip to say, so not each
 * connection that is let in here gets its on_open; and the on_open may come on another worker, while this one asks
 * about the next peer already.
 *
 * Called on the worker that accepts. With one worker never at the same time as another callback; with several workers
 * several may ask at once, but none any more when on_drop is called. It holds up all connections of its worker: look
 * something up, do not wait for something.
 */
typedef int32_t (*wharf_on_admit)(void *context, const char *peer_address, size_t len);

/**
 * The connection is there: it was accepted, or the connect has succeeded. Always the first call for a connection.
 *
 * - context: the handler's
 * - conn: the connection; good until its on_close has returned
 */
typedef void (*wharf_on_open)(void *context, wharf_conn conn);

/**
 * Bytes arrived. TCP carries a stream, not messages (RFC 9293): how it is cut into calls is chance.
 *
 * - context: the handler's
 * - conn: the connection
 * - data: the bytes; they live for the call: copy what you keep
 * - len: how many; at least 1, at most receive_buffer_bytes of the engine
 *
 * None comes after wharf_conn_pause or wharf_conn_close was called inside a callback of the connection. When another
 * thread calls them, one that is already under way may still be running. One exception: when a paused connection ends
 * for a reason that is not yours (a reset, a send that failed, a deadline), what had come by then is told before
 * on_close.
 */
typedef void (*wharf_on_receive)(void *context, wharf_conn conn, const uint8_t *data, size_t len);

/**
 * A send with a token is done with. Comes exactly once for each wharf_sendv that was taken with a token other than 0,
 * in the order of the sends, and before on_close.
 *
 * - context: the handler's
 * - conn: the connection
 * - token: the one of the send
 * - status: WHARF_OK: its last byte was handed to the system (which does not mean that it arrived: only an answer of
 *   the peer proves that); otherwise the reason for which it never will be (WHARF_E_CLOSED: a close of yours threw it
 *   away)
 */
typedef void (*wharf_on_sent)(void *context, wharf_conn conn, uint64_t token, wharf_status status);

/**
 * Room again. Comes once after a send was refused with WHARF_E_QUEUE_FULL or WHARF_E_POOL_EXHAUSTED, as soon as at
 * least half of send_queue_limit_bytes is free (and the pool has blocks). A send in it may be refused again; then it
 * comes again.
 *
 * - context: the handler's
 * - conn: the connection
 */
typedef void (*wharf_on_writable)(void *context, wharf_conn conn);

/**
 * The peer will send no more (it sent FIN). You may go on sending; when you are done, close with WHARF_CLOSE_SEND_SIDE
 * or WHARF_CLOSE_FLUSH. Without this function the connection is closed for you, queued bytes first.
 *
 * - context: the handler's
 * - conn: the connection
 */
typedef void (*wharf_on_end)(void *context, wharf_conn conn);

/**
 * The connection is gone: exactly once for each that was opened, and the last call for it. Inside it the handle is
 * still good for reading (wharf_conn_data, wharf_conn_peer_address, wharf_conn_stats); when it returns the handle is
 * stale.
 *
 * A client's connect that failed is told here, too: with conn 0 and the reason, and without an on_open; once for each
 * attempt of a client that reconnects.
 *
 * - context: the handler's
 * - conn: the connection, or 0
 * - reason: what ended it:
 *   - WHARF_OK: this side closed it, as asked; after WHARF_CLOSE_FLUSH all bytes have left
 *   - WHARF_E_END_OF_STREAM: the peer ended its side, and this side followed
 *   - WHARF_E_RESET: the peer reset it
 *   - WHARF_E_IDLE, WHARF_E_FIRST_BYTE, WHARF_E_SEND_STALLED: the timeout of that name passed
 *   - WHARF_E_TOO_SLOW: it sent more slowly than min_receive_bytes_per_s
 *   - WHARF_E_TIMEOUT: the peer answered neither keepalive probes nor what was sent to it; or a flushing close met its
 *     linger deadline with bytes unsent; with conn 0: connect_timeout_ms passed
 *   - WHARF_E_STOPPED: the server, client or engine was stopped or destroyed
 *   - WHARF_E_REFUSED, WHARF_E_UNREACHABLE, WHARF_E_RESOLVE, WHARF_E_LIMIT ... with conn 0: why the connect failed
 *   - WHARF_E_PANIC: a fault inside the library was contained to this connection; please report it
 *   - any other: the system's error, translated
 */
typedef void (*wharf_on_close)(void *context, wharf_conn conn, wharf_status reason);

/**
 * The last call of a handler, exactly once, after its server or client was destroyed and the last on_close has
 * returned. Nothing uses the context any more: free it here. Not called when the create failed: then the context is
 * still yours.
 *
 * - context: the handler's
 */
typedef void (*wharf_on_drop)(void *context);

/** What you want to be told of a server's or client's connections. */
typedef struct wharf_handler {
  /** sizeof(wharf_handler). */
  size_t struct_size;
  /**
   * The first argument of every call. Used on worker threads. The engine never looks at what it points to; free it
   * in on_drop.
   */
  void *context;
  /** The connection is there. */
  wharf_on_open on_open;
  /** Bytes arrived. NULL: pull mode. */
  wharf_on_receive on_receive;
  /** A send with a token is done with. */
  wharf_on_sent on_sent;
  /** Room again after a refused send. */
  wharf_on_writable on_writable;
  /** The peer will send no more. NULL: close, queued bytes first. */
  wharf_on_end on_end;
  /** The connection is gone, or (conn 0) a connect failed. */
  wharf_on_close on_close;
  /** The last call of all. */
  wharf_on_drop on_drop;
  /** Whether a server lets a peer in. NULL: it does. */
  wharf_on_admit on_admit;
} wharf_handler;


/*
 * ====================================================================================================
 * Server: listens at one address and accepts.
 *
 * Made stopped; wharf_server_start binds and listens; wharf_server_stop drains; it can be started again.
 * wharf_server_destroy ends it.
 */

/**
 * For wharf_server_config.at_limit: connections that are too many stay in the system's backlog until a place is free
 * (and the accept rate allows it).
 */
#define WHARF_AT_LIMIT_WAIT 0

/** For wharf_server_config.at_limit: connections that are too many are accepted, reset and counted. */
#define WHARF_AT_LIMIT_REJECT 1

/**
 * For wharf_server_config.flags: an IPv6 address takes IPv6 only (IPV6_V6ONLY, RFC 3493). Without it "[::]:8088" takes
 * IPv4, too.
 */
#define WHARF_SERVER_V6ONLY 1

/** For wharf_server_config.flags: several sockets may listen on the same port (SO_REUSEPORT). */
#define WHARF_SERVER_REUSEPORT 2

/** How a server is made. Zero means the default; address (or listen_fd_plus_one) is needed. */
typedef struct wharf_server_config {
  /** sizeof(wharf_server_config). */
  size_t struct_size;
  /**
   * Where to listen: "0.0.0.0:8088"; "[::1]:8088"; ":8088" for every address of the machine, IPv6 and IPv4;
   * "unix:/run/x.sock", or "unix:@name" for the abstract namespace of Linux. Port 0: the system chooses, and
   * wharf_server_address tells. NULL with listen_fd_plus_one. Copied.
   */
  const char *address;
  /**
   * An inherited socket that already listens (socket activation), plus one: 4 for descriptor 3. 0: none. The first
   * wharf_server_start takes it over and closes it in the end; until then it is yours.
   */
  int32_t listen_fd_plus_one;
  /** The most connections of this server at a time. 0, or more than the engine's: the engine's max_connections. */
  uint32_t max_connections;
  /**
   * What happens to a connection that is one too many, for max_connections or accept_rate_per_s: WHARF_AT_LIMIT_WAIT
   * or WHARF_AT_LIMIT_REJECT.
   */
  uint32_t at_limit;
  /**
   * Connections that the system keeps until they are accepted (listen(2)). 0: max_connections, as the system allows.
   */
  uint32_t backlog;
  /** WHARF_SERVER_* and WHARF_TCP_* bits. */
  uint32_t flags;
  /**
   * The most connections from one IPv4 address, or from one IPv6 /64; one too many is reset and counted. 0: no
   * bound.
   */
  uint32_t max_connections_per_ip;
  /** The most bytes that may wait in one connection's send queue: 1 to 1073741824. 0: 262144. */
  uint32_t send_queue_limit_bytes;
  /**
   * Close with WHARF_E_IDLE when nothing came and nothing left for this long: milliseconds, up to 2147483647. 0:
   * never.
   */
  uint32_t idle_timeout_ms;
  /**
   * Close with WHARF_E_FIRST_BYTE when the peer has sent nothing this long after connecting: milliseconds, up to
   * 2147483647. 0: never.
   */
  uint32_t first_byte_timeout_ms;
  /**
   * Close with WHARF_E_SEND_STALLED when bytes are queued and the peer takes none for this long: milliseconds, up to
   * 2147483647. 0: never.
   */
  uint32_t send_stall_timeout_ms;
  /**
   * How long a flushing close waits for its bytes to leave and for the peer's FIN: milliseconds, up to 2147483647.
   * 0: 5000.
   */
  uint32_t linger_ms;
  /**
   * Seconds of silence before the first keepalive probe (RFC 9293, section 3.8.4): up to 32767. 0: no keepalive. With
   * it, a peer that vanished ends the connection with WHARF_E_TIMEOUT after this time and that of the probes, also
   * while bytes are under way, for which no probes are sent (on Linux: TCP_USER_TIMEOUT, tcp(7)); one that takes
   * nothing for as long (a closed window) does, too.
   */
  uint32_t keepalive_s;
  /** Seconds between probes: up to 32767. 0: as the system does. */
  uint32_t keepalive_interval_s;
  /** Probes without an answer before the connection counts as dead: up to 127. 0: as the system does. */
  uint32_t keepalive_probes;
  /** The system's send buffer of each connection (SO_SNDBUF) in bytes: up to 1073741824. 0: as the system does. */
  uint32_t socket_send_buffer_bytes;
  /** The system's receive buffer of each connection (SO_RCVBUF) in bytes: up to 1073741824. 0: as the system does. */
  uint32_t socket_receive_buffer_bytes;
  /**
   * Address blocks whose peers are let in, between commas or white space: "10.0.0.0/8, 2001:db8::/32, 192.0.2.7".
   * At most 1048575 bytes; copied. NULL, or no entry: all. IPv4 peers of a server that takes both are in IPv4 blocks;
   * peers of a Unix socket are in none, and let in. Who is not let in is reset and counted.
   */
  const char *allow;
  /** Address blocks whose peers are not let in, in the same form; stronger than allow. NULL, or no entry: none. */
  const char *deny;
  /**
   * The most connections that are let in a second, in the long run: up to 1000000. Those that are too many wait in
   * the backlog or are reset and counted, as at_limit says. 0: no bound.
   */
  uint32_t accept_rate_per_s;
  /** The most connections that are let in at once after a rest: up to 1000000. 0: accept_rate_per_s. */
  uint32_t accept_burst;
  /**
   * Close with WHARF_E_TOO_SLOW when a peer sends, but fewer bytes a second than this: up to 1073741824. Measured
   * from one byte to a later one, over at least min_receive_grace_ms; silence is for idle_timeout_ms to judge, so a
   * peer that waits for an answer is not slow. Whatever is sent to the peer begins a new measurement, and so does
   * wharf_conn_resume; not in pull mode. 0: no bound.
   */
  uint32_t min_receive_bytes_per_s;
  /** How long a peer may be slower than that: milliseconds, up to 2147483647. 0: 5000. */
  uint32_t min_receive_grace_ms;
} wharf_server_config;

/**
 * Makes a server, stopped. Nothing is bound yet and no callback comes before wharf_server_start.
 *
 * - engine: where it lives; WHARF_DEFAULT_ENGINE for the shared one
 * - config: the configuration; copied, texts included
 * - handler: your callbacks; copied
 * - out: receives the server, or 0
 * - error: receives the details; may be NULL
 *
 * You own the server: end it with wharf_server_destroy, or with its engine. If the call fails the handler was not
 * taken: none of its functions is called, on_drop included, and the context is still yours.
 *
 * Errors:
 * - WHARF_E_INVALID_ARGUMENT: a pointer is NULL, the address or an entry of a list is malformed, or a field is out of
 *   range; the message says which
 * - WHARF_E_LIMIT: the engine has 64 servers already
 * - WHARF_E_STOPPED: the engine is being destroyed
 * - WHARF_E_STALE, WHARF_E_WRONG_KIND: no engine has this handle
 *
 * Any thread, any callback.
 */
wharf_status wharf_server_create(wharf_engine engine,
                                 const wharf_server_config *config,
                                 const wharf_handler *handler,
                                 wharf_server *out,
                                 wharf_error *error);

/**
 * Binds and listens. Does nothing on a server that runs already.
 *
 * - server: the server
 * - error: receives the details; may be NULL
 *
 * After a success callbacks may come at once, on other threads, before the call has even returned.
 *
 * Errors:
 * - WHARF_E_ADDRESS_IN_USE, WHARF_E_ADDRESS_NOT_AVAILABLE, WHARF_E_PERMISSION: the system does not give the address
 * - WHARF_E_STATE: it is draining (wait first), being destroyed, or its inherited descriptor was used up by an earlier
 *   start
 * - WHARF_E_INVALID_ARGUMENT: the inherited descriptor is not a listening socket
 * - WHARF_E_TOO_MANY_FILES, WHARF_E_NO_MEMORY, WHARF_E_UNSUPPORTED, WHARF_E_OS: the system cannot
 * - WHARF_E_STALE, WHARF_E_WRONG_KIND: no server has this handle
 *
 * Any thread, any callback.
 */
wharf_status wharf_server_start(wharf_server server, wharf_error *error);

/**
 * Stops accepting at once, and drains behind: every connection is closed as by WHARF_CLOSE_FLUSH, with the reason
 * WHARF_E_STOPPED. What has bytes queued after drain_ms is reset; what has none is closed behind its FIN. Returns at
 * once; wharf_server_wait waits for the end.
 *
 * - server: the server
 * - drain_ms: how long the drain may take, in milliseconds; 0: reset at once what has bytes queued
 *
 * When it has returned no accept begins any more. What waits in the backlog is reset by the system, unless others hold
 * the listening socket, too (an inherited descriptor): then it waits for them. The drain lets queued bytes leave; it
 * does not wait for answers that your program has yet to produce: a send gives WHARF_E_CLOSED from then on, although
 * on_sent with WHARF_OK still comes for earlier ones. On a stopped server it does nothing; a second stop can only
 * shorten the deadline.
 *
 * Errors:
 * - WHARF_E_STALE, WHARF_E_WRONG_KIND: no server has this handle
 *
 * Any thread, any callback.
 */
wharf_status wharf_server_stop(wharf_server server, uint32_t drain_ms);

/**
 * Waits until the server is stopped and its last on_close has returned. Returns at once when it does not run.
 *
 * - server: the server
 * - timeout_ms: how long to wait at most, in milliseconds; WHARF_FOREVER: for ever
 *
 * Errors:
 * - WHARF_E_TIMEOUT: it still runs or drains
 * - WHARF_E_WOULD_DEADLOCK: called in a callback, or on the thread that turns a caller-driven engine
 * - WHARF_E_STALE, WHARF_E_WRONG_KIND: no server has this handle
 *
 * Any thread of yours. It does not stop the server: another thread, a callback or a signal's thread does.
 */
wharf_status wharf_server_wait(wharf_server server, uint32_t timeout_ms);

/**
 * Ends a server: stops it as with drain_ms 0 (reason WHARF_E_STOPPED), and after the last on_close calls
 * on_drop. Returns at once; the end goes on behind. To let queued bytes leave, stop and wait first.
 *
 * - server: the server; its handle is stale when on_drop has returned
 *
 * Errors:
 * - WHARF_E_STALE, WHARF_E_WRONG_KIND: no server has this handle (any more)
 *
 * Any thread, any callback; calling it again while the end goes on does nothing.
 */
wharf_status wharf_server_destroy(wharf_server server);

/**
 * Tells whether the server listens.
 *
 * - server: the server
 * - out: receives 1 or 0; it is 0 as soon as a stop was asked for
 *
 * Errors:
 * - WHARF_E_INVALID_ARGUMENT: out is NULL
 * - WHARF_E_STALE, WHARF_E_WRONG_KIND: no server has this handle
 *
 * Any thread, any callback.
 */
wharf_status wharf_server_is_running(wharf_server server, uint8_t *out);

/**
 * Tells where the server listens, with the real port; before the first start, what it was configured with.
 *
 * - server: the server
 * - buf, len, needed: where the text goes (see Strings); 64 bytes are enough for every IP address, 448 for all others
 *
 * Errors:
 * - WHARF_E_LIMIT: the text was cut; needed tells how many bytes it takes
 * - WHARF_E_INVALID_ARGUMENT: buf is NULL although len is not 0, or there is nothing to write to
 * - WHARF_E_STALE, WHARF_E_WRONG_KIND: no server has this handle
 *
 * Any thread, any callback.
 */
wharf_status wharf_server_address(wharf_server server, char *buf, size_t len, size_t *needed);

/**
 * Lists the connections that are open at this moment. By the time you use one it may be gone: then it is stale.
 *
 * - server: the server
 * - out: receives the handles; NULL with cap 0 to ask for the number alone
 * - cap: how many there is room for
 * - count: receives how many there are, which may be more than cap
 *
 * Errors:
 * - WHARF_E_LIMIT: there are more than cap; the first cap were written
 * - WHARF_E_INVALID_ARGUMENT: count is NULL, or out is NULL although cap is not 0
 * - WHARF_E_STALE, WHARF_E_WRONG_KIND: no server has this handle
 *
 * Any thread, any callback.
 */
wharf_status wharf_server_connections(wharf_server server, wharf_conn *out, size_t cap, size_t *count);


/*
 * ====================================================================================================
 * Client: dials one address, and dials again if asked to.
 *
 * Made stopped; wharf_client_start begins to connect. It has at most one connection at a time, handed over by on_open.
 * With reconnect_max_ms it dials again when a connect fails or the connection ends, until wharf_client_stop.
 */

/** How a client is made. Zero means the default; address is needed. */
typedef struct wharf_client_config {
  /** sizeof(wharf_client_config). */
  size_t struct_size;
  /**
   * Where to connect to: "example.org:80", "192.0.2.7:80", "[::1]:80", "unix:/run/x.sock". A name is resolved at
   * each connect, on threads of the engine (resolver_threads), and its addresses are tried in turn (RFC 8305). See
   * Addresses. Copied.
   */
  const char *address;
  /** Where to connect from: "192.0.2.1:0", "[::1]:0". NULL: the system chooses. Copied. */
  const char *local_address;
  /**
   * How long resolving and connecting may take together: milliseconds, up to 2147483647. 0: 10000. Connecting to a Unix
   * socket whose backlog is full waits for as long.
   */
  uint32_t connect_timeout_ms;
  /**
   * The first pause before another attempt: milliseconds, at most reconnect_max_ms. 0: 100 (or reconnect_max_ms if
   * that is shorter). The pause doubles, with jitter, up to reconnect_max_ms: with each attempt in a row that failed,
   * or whose connection did not last for reconnect_stable_ms.
   */
  uint32_t reconnect_min_ms;
  /** The longest pause before another attempt: milliseconds, up to 2147483647. 0: never connect again. */
  uint32_t reconnect_max_ms;
  /**
   * Attempts in a row that may fail before it gives up. A connection that opened is no failure, however short it was,
   * and the count begins anew. 0: no bound.
   */
  uint32_t reconnect_attempts;
  /** WHARF_TCP_* bits. */
  uint32_t flags;
  /** The most bytes that may wait in the connection's send queue: 1 to 1073741824. 0: 262144. */
  uint32_t send_queue_limit_bytes;
  /**
   * Close with WHARF_E_IDLE when nothing came and nothing left for this long: milliseconds, up to 2147483647. 0:
   * never.
   */
  uint32_t idle_timeout_ms;
  /**
   * Close with WHARF_E_FIRST_BYTE when the peer has sent nothing this long after connecting: milliseconds, up to
   * 2147483647. 0: never.
   */
  uint32_t first_byte_timeout_ms;
  /**
   * Close with WHARF_E_SEND_STALLED when bytes are queued and the peer takes none for this long: milliseconds, up to
   * 2147483647. 0: never.
   */
  uint32_t send_stall_timeout_ms;
  /**
   * How long a flushing close waits for its bytes to leave and for the peer's FIN: milliseconds, up to 2147483647.
   * 0: 5000.
   */
  uint32_t linger_ms;
  /**
   * Seconds of silence before the first keepalive probe (RFC 9293, section 3.8.4): up to 32767. 0: no keepalive. With
   * it, a peer that vanished ends the connection with WHARF_E_TIMEOUT after this time and that of the probes, also
   * while bytes are under way, for which no probes are sent (on Linux: TCP_USER_TIMEOUT, tcp(7)); one that takes
   * nothing for as long (a closed window) does, too.
   */
  uint32_t keepalive_s;
  /** Seconds between probes: up to 32767. 0: as the system does. */
  uint32_t keepalive_interval_s;
  /** Probes without an answer before the connection counts as dead: up to 127. 0: as the system does. */
  uint32_t keepalive_probes;
  /** The system's send buffer (SO_SNDBUF) in bytes: up to 1073741824. 0: as the system does. */
  uint32_t socket_send_buffer_bytes;
  /** The system's receive buffer (SO_RCVBUF) in bytes: up to 1073741824. 0: as the system does. */
  uint32_t socket_receive_buffer_bytes;
  /**
   * How long a connection must be open to count as one that lasted, so that the pause begins anew at reconnect_min_ms:
   * milliseconds, up to 2147483647. 0: 5000. Counted from its beginning until it closes or is asked to close;
   * a half-close is none.
   */
  uint32_t reconnect_stable_ms;
} wharf_client_config;

/**
 * Makes a client, stopped. Nothing is dialled and no callback comes before wharf_client_start.
 *
 * - engine: where it lives; WHARF_DEFAULT_ENGINE for the shared one
 * - config: the configuration; copied, texts included
 * - handler: your callbacks; copied
 * - out: receives the client, or 0
 * - error: receives the details; may be NULL
 *
 * You own the client: end it with wharf_client_destroy, or with its engine. If the call fails the handler was not
 * taken: none of its functions is called, on_drop included, and the context is still yours.
 *
 * Errors:
 * - WHARF_E_INVALID_ARGUMENT: a pointer is NULL, an address is malformed, or a field is out of range; the message says
 *   which
 * - WHARF_E_LIMIT: the engine has max_connections clients already
 * - WHARF_E_STOPPED: the engine is being destroyed
 * - WHARF_E_STALE, WHARF_E_WRONG_KIND: no engine has this handle
 *
 * Any thread, any callback.
 */
wharf_status wharf_client_create(wharf_engine engine,
                                 const wharf_client_config *config,
                                 const wharf_handler *handler,
                                 wharf_client *out,
                                 wharf_error *error);

/**
 * Begins to connect, and returns at once: on_open tells of the connection, on_close with conn 0 of a failure. Does
 * nothing on a client that is started already.
 *
 * - client: the client
 * - error: receives the details; may be NULL
 *
 * A client without reconnect_max_ms is stopped again when its connect has failed or its connection has ended, and can
 * then be started anew.
 *
 * Errors:
 * - WHARF_E_STATE: it is being stopped (wait for its on_close) or destroyed
 * - WHARF_E_STALE, WHARF_E_WRONG_KIND: no client has this handle
 *
 * Any thread, any callback.
 */
wharf_status wharf_client_start(wharf_client client, wharf_error *error);

/**
 * Gives the connection that the client has now. One that closes, or was asked to, is none; one of which you closed the
 * sending side still is.
 *
 * - client: the client
 * - out: receives the connection, or 0
 *
 * Errors:
 * - WHARF_E_STATE: it has none now
 * - WHARF_E_INVALID_ARGUMENT: out is NULL
 * - WHARF_E_STALE, WHARF_E_WRONG_KIND: no client has this handle
 *
 * Any thread, any callback.
 */
wharf_status wharf_client_conn(wharf_client client, wharf_conn *out);

/**
 * Waits until the client has been connected since its start (on_open was called), or has given up.
 *
 * - client: the client, started
 * - timeout_ms: how long to wait at most, in milliseconds; WHARF_FOREVER: for ever
 * - error: receives the details of the last attempt; may be NULL
 *
 * WHARF_OK means that a connection was made; it may have ended since.
 *
 * Errors:
 * - WHARF_E_REFUSED, WHARF_E_UNREACHABLE, WHARF_E_RESOLVE ...: why the last attempt failed, when it has given up
 * - WHARF_E_TIMEOUT: not connected in time, here or within connect_timeout_ms; the message tells which, and whether the
 *   resolver gave no answer
 * - WHARF_E_OS, WHARF_E_NO_MEMORY: no thread could be started to resolve its name; the next attempt tries again
 * - WHARF_E_STOPPED: it was stopped before it was connected
 * - WHARF_E_STATE: it was not started
 * - WHARF_E_WOULD_DEADLOCK: called in a callback, or on the thread that turns a caller-driven engine
 * - WHARF_E_STALE, WHARF_E_WRONG_KIND: no client has this handle
 *
 * Any thread of yours.
 */
wharf_status wharf_client_wait(wharf_client client, uint32_t timeout_ms, wharf_error *error);

/**
 * Stops connecting, and closes the connection if there is one: queued bytes leave first, within linger_ms; the reason
 * is WHARF_E_STOPPED. Returns at once. The client can be started again after its on_close.
 *
 * - client: the client
 *
 * Errors:
 * - WHARF_E_STALE, WHARF_E_WRONG_KIND: no client has this handle
 *
 * Any thread, any callback. On a stopped client it does nothing.
 */
wharf_status wharf_client_stop(wharf_client client);

/**
 * Ends a client: stops connecting, closes its connection at once (reason WHARF_E_STOPPED), and after the last on_close
 * calls on_drop. Returns at once; the end goes on behind. To let queued bytes leave, close the connection with
 * WHARF_CLOSE_FLUSH and destroy the client in on_close.
 *
 * - client: the client; its handle is stale when on_drop has returned
 *
 * Errors:
 * - WHARF_E_STALE, WHARF_E_WRONG_KIND: no client has this handle (any more)
 *
 * Any thread, any callback; calling it again while the end goes on does nothing.
 */
wharf_status wharf_client_destroy(wharf_client client);


/*
 * ====================================================================================================
 * Connection: the same for both sides.
 *
 * A connection belongs to a server or a client, which makes it; you get its handle from on_open. A call on a
 * connection that ended a moment ago gives WHARF_E_STALE (or WHARF_E_CLOSED), and that is all: there is nothing to
 * count or to lock.
 */

/**
 * How to close: queued bytes leave, then FIN, then wait for the peer's FIN or linger_ms, so that the last bytes are
 * not destroyed by a reset (RFC 2525, section 2.17). What still arrives is thrown away. The default.
 */
#define WHARF_CLOSE_FLUSH 0

/** How to close: half-close. Queued bytes leave, then FIN; receiving goes on until the peer ends, too. */
#define WHARF_CLOSE_SEND_SIDE 1
/** How to close: drop what is queued and close. */
#define WHARF_CLOSE_NOW 2
/** How to close: drop what is queued and send RST. */
#define WHARF_CLOSE_RESET 3

/** The deadlines of one connection, for wharf_conn_set_timeouts. Here 0 means: no such deadline. */
typedef struct wharf_timeouts {
  /** sizeof(wharf_timeouts). */
  size_t struct_size;
  /**
   * Close with WHARF_E_IDLE when nothing came and nothing left for this long: milliseconds, up to 2147483647. 0:
   * never.
   */
  uint32_t idle_timeout_ms;
  /**
   * Close with WHARF_E_FIRST_BYTE when the peer has sent nothing this long after connecting: milliseconds, up to
   * 2147483647. 0: never.
   */
  uint32_t first_byte_timeout_ms;
  /**
   * Close with WHARF_E_SEND_STALLED when bytes are queued and the peer takes none for this long: milliseconds, up to
   * 2147483647. 0: never.
   */
  uint32_t send_stall_timeout_ms;
  /** Must be 0. */
  uint32_t reserved;
} wharf_timeouts;

/**
 * Stops receiving: no more on_receive. The system's buffer fills, the TCP window closes, and the peer feels it. A
 * paused connection does not learn that the peer ended its side; it does learn that it broke, and what had come by then
 * is told before on_close. Bytes that wait in the system count for the deadlines: a peer that has sent is not silent.
 *
 * - conn: the connection
 *
 * Called inside a callback of the connection, nothing comes after it; called by another thread, an on_receive that is
 * already under way may still be running. In pull mode it does nothing.
 *
 * Errors:
 * - WHARF_E_STALE, WHARF_E_WRONG_KIND: no connection has this handle (any more)
 *
 * Any thread, any callback.
 */
wharf_status wharf_conn_pause(wharf_conn conn);

/**
 * Receives again after wharf_conn_pause. Pauses do not add up: one resume ends them all.
 *
 * - conn: the connection
 *
 * Errors:
 * - WHARF_E_STALE, WHARF_E_WRONG_KIND: no connection has this handle (any more)
 *
 * Any thread, any callback.
 */
wharf_status wharf_conn_resume(wharf_conn conn);

/**
 * Closes a connection. Returns at once; on_close tells when it is gone.
 *
 * - conn: the connection
 * - how: WHARF_CLOSE_FLUSH (0), WHARF_CLOSE_SEND_SIDE, WHARF_CLOSE_NOW or WHARF_CLOSE_RESET
 *
 * A stronger way overrides a weaker one that is still under way (SEND_SIDE, FLUSH, NOW, RESET, from weak to strong); a
 * weaker one changes nothing. Further sends get WHARF_E_CLOSED. After FLUSH, NOW and RESET no more on_receive comes
 * (one may still be running when another thread closes), only on_sent for sends that are owed one, and on_close.
 *
 * Errors:
 * - WHARF_E_INVALID_ARGUMENT: how is none of the four
 * - WHARF_E_STALE, WHARF_E_WRONG_KIND: no connection has this handle (any more)
 *
 * Any thread, any callback.
 */
wharf_status wharf_conn_close(wharf_conn conn, uint32_t how);

/**
 * Keeps one pointer of yours with the connection. The engine never looks at what it points to, and does not free it:
 * do that in on_close. It is NULL when the connection opens.
 *
 * - conn: the connection
 * - data: any pointer, also NULL
 *
 * Errors:
 * - WHARF_E_STALE, WHARF_E_WRONG_KIND: no connection has this handle (any more)
 *
 * Any thread, any callback.
 */
wharf_status wharf_conn_set_data(wharf_conn conn, void *data);

/**
 * Gives the pointer back that wharf_conn_set_data keeps. Good in on_close, too.
 *
 * - conn: the connection
 * - out: receives the pointer, or NULL
 *
 * Errors:
 * - WHARF_E_INVALID_ARGUMENT: out is NULL
 * - WHARF_E_STALE, WHARF_E_WRONG_KIND: no connection has this handle (any more)
 *
 * Any thread, any callback.
 */
wharf_status wharf_conn_data(wharf_conn conn, void **out);

/**
 * Tells who the peer is: "192.0.2.7:40112", "[2001:db8::7]:40112", "[fe80::7%3]:40112", "unix:/run/x.sock" (see
 * Addresses). The peer of a client is where it connected to. The peer of a server on a Unix socket has the name that
 * its own socket was bound to, or none: "unix:". An IPv4 peer of a server that takes both comes as plain IPv4.
 *
 * - conn: the connection
 * - buf, len, needed: where the text goes (see Strings); 64 bytes are enough for every IP address, 448 for all others
 *
 * Errors:
 * - WHARF_E_LIMIT: the text was cut; needed tells how many bytes it takes
 * - WHARF_E_INVALID_ARGUMENT: buf is NULL although len is not 0, or there is nothing to write to
 * - WHARF_E_STALE, WHARF_E_WRONG_KIND: no connection has this handle (any more)
 *
 * Any thread, any callback; good in on_close, too, although the socket is closed by then. (A name of a Unix socket is
 * the system's to tell: one that forgets it when the peer goes makes it "unix:". Linux keeps it.)
 */
wharf_status wharf_conn_peer_address(wharf_conn conn, char *buf, size_t len, size_t *needed);

/**
 * Tells our own end of the connection, in the same form.
 *
 * - conn: the connection
 * - buf, len, needed: where the text goes (see Strings); 64 bytes are enough for every IP address, 448 for all others
 *
 * Errors:
 * - WHARF_E_LIMIT: the text was cut; needed tells how many bytes it takes
 * - WHARF_E_CLOSED: the socket is closed already
 * - WHARF_E_INVALID_ARGUMENT: buf is NULL although len is not 0, or there is nothing to write to
 * - WHARF_E_STALE, WHARF_E_WRONG_KIND: no connection has this handle (any more)
 *
 * Any thread, any callback.
 */
wharf_status wharf_conn_local_address(wharf_conn conn, char *buf, size_t len, size_t *needed);

/**
 * Changes the deadlines of one connection, all three at once. They begin with those of its server or client.
 *
 * - conn: the connection
 * - timeouts: the new ones; 0: no such deadline
 *
 * Errors:
 * - WHARF_E_INVALID_ARGUMENT: timeouts is NULL, struct_size is wrong, or a field is out of range
 * - WHARF_E_STALE, WHARF_E_WRONG_KIND: no connection has this handle (any more)
 *
 * Any thread, any callback.
 */
wharf_status wharf_conn_set_timeouts(wharf_conn conn, const wharf_timeouts *timeouts);


/*
 * ====================================================================================================
 * Sending and receiving.
 *
 * A send is taken whole or not at all, and the bytes of one connection leave in the order in which the calls were
 * taken, whatever the threads. What the system has no room for waits in the connection's queue, which is bounded; a
 * send that finds no room is refused, and on_writable tells when there is some again.
 *
 * What arrives comes by on_receive. A handler without on_receive asks for it instead (pull mode): wharf_receive_wait.
 */

/** The most slices of one wharf_sendv. */
#define WHARF_MAX_SLICES 64

/** A piece of what wharf_sendv sends. */
typedef struct wharf_slice {
  /** The bytes. NULL is good for none. */
  const void *data;
  /** How many. */
  size_t len;
} wharf_slice;

/** How many connections a broadcast reached. Set struct_size before the call. */
typedef struct wharf_broadcast_result {
  /** sizeof(wharf_broadcast_result). */
  size_t struct_size;
  /** Connections that took the bytes, whole. */
  uint32_t taken;
  /**
   * Connections that took none of them: no room in their queue or in the pool, or they are closing. Each of those
   * without room gets its on_writable.
   */
  uint32_t refused;
} wharf_broadcast_result;

/**
 * Sends bytes: all of them, or none.
 *
 * - conn: the connection
 * - data, len: the bytes; copied or sent before the call returns. 0 bytes are sent by doing nothing
 *
 * Never blocks. On a connection with nothing queued the bytes go straight to the system from this thread; when other
 * threads send so much that the worker keeps up better, small sends are left to it and leave together. Inside a
 * callback of the connection's worker small sends are held back until the callback returns, and then leave together.
 * What the system has no room for waits in the queue. The bytes of one connection leave in the order in which the
 * calls were taken.
 *
 * Errors (nothing of it was taken):
 * - WHARF_E_QUEUE_FULL: the connection's queue has no room for it: keep it and wait for on_writable
 * - WHARF_E_POOL_EXHAUSTED: the engine's pool has no room for it: the same
 * - WHARF_E_LIMIT: len is larger than send_queue_limit_bytes, or than the whole pool: split it, or use wharf_send_wait
 * - WHARF_E_CLOSED: the sending side is closed
 * - WHARF_E_INVALID_ARGUMENT: data is NULL although len is not 0, or len is more than half of the address space
 * - WHARF_E_STALE, WHARF_E_WRONG_KIND: no connection has this handle (any more)
 *
 * Any thread, any callback.
 */
wharf_status wharf_send(wharf_conn conn, const void *data, size_t len);

/**
 * Sends several pieces as one: all of them, or none. Optionally tells when they are gone.
 *
 * - conn: the connection
 * - slices, count: the pieces, in order; at most WHARF_MAX_SLICES; copied or sent before the call returns
 * - token: comes back in one on_sent when the last byte was handed to the system, or never will be; 0: no on_sent
 * - flags: must be 0
 *
 * As wharf_send in everything else. Without any bytes, on_sent comes when everything before it is gone.
 *
 * Errors (nothing of it was taken, and no on_sent comes):
 * - WHARF_E_QUEUE_FULL, WHARF_E_POOL_EXHAUSTED, WHARF_E_LIMIT, WHARF_E_CLOSED: as for wharf_send, for all pieces
 *   together
 * - WHARF_E_INVALID_ARGUMENT: slices is NULL although count is not 0, a data is NULL although its len is not 0, count
 *   is too large, or flags is not 0
 * - WHARF_E_STALE, WHARF_E_WRONG_KIND: no connection has this handle (any more)
 *
 * Any thread, any callback.
 */
wharf_status wharf_sendv(wharf_conn conn,
                         const wharf_slice *slices,
                         size_t count,
                         uint64_t token,
                         uint32_t flags);

/**
 * Sends bytes and waits until all of them were taken (handed to the system or queued). May be larger than
 * send_queue_limit_bytes: it takes pieces as room appears.
 *
 * - conn: the connection
 * - data, len: the bytes
 * - timeout_ms: how long to wait at most, in milliseconds; WHARF_FOREVER: for ever
 * - taken: receives how many bytes were taken, whatever the result; those will leave; may be NULL
 *
 * Sends of other threads may come between the pieces.
 *
 * Errors:
 * - WHARF_E_TIMEOUT: not all was taken in time
 * - WHARF_E_WOULD_DEADLOCK: called in a callback, or on the thread that turns a caller-driven engine
 * - WHARF_E_CLOSED: the sending side is closed, or was while this waited
 * - WHARF_E_INVALID_ARGUMENT: data is NULL although len is not 0, or len is more than half of the address space
 * - WHARF_E_STALE, WHARF_E_WRONG_KIND: no connection has this handle (any more)
 *
 * Any thread of yours.
 */
wharf_status wharf_send_wait(wharf_conn conn, const void *data, size_t len, uint32_t timeout_ms, size_t *taken);

/**
 * Receives in pull mode: waits until bytes are there and copies what there is, at most len. For connections of a
 * handler without on_receive; nothing is read from the system before you ask, so the peer feels it when you do not.
 *
 * - conn: the connection
 * - buf, len: where the bytes go; at least 1
 * - timeout_ms: how long to wait at most, in milliseconds; 0: take what is there; WHARF_FOREVER: for ever
 * - got: receives how many bytes were written: at least 1 on success, 0 otherwise
 *
 * Errors:
 * - WHARF_E_END_OF_STREAM: the peer has sent all that it will send; the connection stays until you close it
 * - WHARF_E_TIMEOUT: nothing came in time
 * - WHARF_E_CLOSED: the connection was closed by this side
 * - WHARF_E_RESET, WHARF_E_IDLE ...: what ended the connection otherwise
 * - WHARF_E_STATE: the handler has an on_receive
 * - WHARF_E_WOULD_DEADLOCK: called in a callback, or on the thread that turns a caller-driven engine
 * - WHARF_E_INVALID_ARGUMENT: buf or got is NULL, or len is 0
 * - WHARF_E_STALE, WHARF_E_WRONG_KIND: no connection has this handle (any more)
 *
 * Any thread of yours; one at a time, if the order of the bytes matters.
 */
wharf_status wharf_receive_wait(wharf_conn conn, void *buf, size_t len, uint32_t timeout_ms, size_t *got);

/**
 * Sends the same bytes to all connections of a server that have room; each takes them whole or not at all. Those
 * without room are left out and counted: a broadcast never waits for the slowest.
 *
 * - server: the server
 * - data, len: the bytes; copied
 * - except: a connection that is left out (the one that said it), or 0
 * - result: receives how many took it; set its struct_size; may be NULL
 *
 * Errors:
 * - WHARF_E_INVALID_ARGUMENT: data is NULL although len is not 0, or struct_size of result is wrong
 * - WHARF_E_STALE, WHARF_E_WRONG_KIND: no server has this handle
 *
 * Any thread, any callback.
 */
wharf_status wharf_server_broadcast(wharf_server server,
                                    const void *data,
                                    size_t len,
                                    wharf_conn except,
                                    wharf_broadcast_result *result);


/*
 * ====================================================================================================
 * Statistics: counters of an engine, a server, a client or a connection.
 *
 * Set struct_size before the call. Counters go up only, but for those that say "now". They are read while others write
 * them: each number is right, two of them may be of slightly different moments.
 */

/**
 * Counters of an engine, a server or a client. At rest accepted + connected = open + closed. Those that only an engine
 * has are zero for the others.
 */
typedef struct wharf_stats {
  /** sizeof(wharf_stats). */
  size_t struct_size;
  /** Connections that were accepted and given a place. */
  uint64_t accepted;
  /** Connects that succeeded. */
  uint64_t connected;
  /** Connects that failed. */
  uint64_t connect_failures;
  /** Connections that live now. */
  uint64_t open;
  /** Connections that are gone; the sum of the six below. */
  uint64_t closed;
  /** Closed by this side, as asked. */
  uint64_t closed_by_us;
  /** Closed because the peer ended its side. */
  uint64_t closed_by_peer;
  /** Closed by a reset of the peer. */
  uint64_t closed_by_reset;
  /**
   * Closed by a deadline (idle, first byte, send stall, linger, slow receive), or because the peer answered no more
   * (keepalive).
   */
  uint64_t closed_by_timeout;
  /** Closed by a stop of the server, client or engine. */
  uint64_t closed_by_stop;
  /** Closed by anything else. */
  uint64_t closed_by_error;
  /** Connections that were reset at max_connections (WHARF_AT_LIMIT_REJECT). */
  uint64_t refused_at_limit;
  /** Connections that were reset at max_connections_per_ip. */
  uint64_t refused_per_ip;
  /** Bytes received. */
  uint64_t bytes_in;
  /** Bytes handed to the system. */
  uint64_t bytes_out;
  /** Receives: calls of on_receive, and of wharf_receive_wait that gave bytes. */
  uint64_t messages_in;
  /** Sends that were taken. */
  uint64_t messages_out;
  /** Bytes that wait in send queues now. */
  uint64_t queued_bytes;
  /** Sends that were refused with WHARF_E_QUEUE_FULL. */
  uint64_t queue_full;
  /** Sends that were refused with WHARF_E_POOL_EXHAUSTED (engine only). */
  uint64_t pool_exhausted;
  /** Blocks of the pool (engine only). */
  uint64_t pool_blocks;
  /** Blocks in use now (engine only). */
  uint64_t pool_blocks_in_use;
  /** The most blocks that ever were in use (engine only). */
  uint64_t pool_blocks_peak;
  /** How often accepting paused because there were max_connections, or accept_rate_per_s was used up. */
  uint64_t accept_pauses;
  /** How often accepting backed off because descriptors or memory ran out. */
  uint64_t descriptor_exhaustions;
  /** Connections that ended while their server was stopping, after the last of their bytes was handed to the system. */
  uint64_t drained;
  /** Connections that a deadline reset while their server was stopping, and whose queued bytes were thrown away. */
  uint64_t drain_resets;
  /** Callbacks that took longer than slow_callback_ms (engine only). */
  uint64_t slow_callbacks;
  /** The longest callback in microseconds (engine only). */
  uint64_t callback_max_us;
  /** The time that all callbacks took in microseconds (engine only). */
  uint64_t callback_total_us;
  /** Bytes of heap set aside; what wharf_engine_footprint told (engine only). */
  uint64_t heap_bytes;
  /** Connections that were reset because the allow and deny lists do not let them in. */
  uint64_t refused_by_list;
  /** Connections that were reset because of accept_rate_per_s (WHARF_AT_LIMIT_REJECT). */
  uint64_t refused_by_rate;
  /** Connections that were reset because on_admit refused them. */
  uint64_t refused_by_host;
} wharf_stats;

/** Counters of one connection, for wharf_conn_stats. */
typedef struct wharf_connection_stats {
  /** sizeof(wharf_connection_stats). */
  size_t struct_size;
  /** Bytes received. */
  uint64_t bytes_in;
  /** Bytes handed to the system. */
  uint64_t bytes_out;
  /** Receives: calls of on_receive, and of wharf_receive_wait that gave bytes. */
  uint64_t messages_in;
  /** Sends that were taken. */
  uint64_t messages_out;
  /** Bytes that wait in the send queue now. */
  uint64_t queued_bytes;
  /** Milliseconds since it was opened. */
  uint64_t age_ms;
  /** Milliseconds since bytes last came or left. */
  uint64_t idle_ms;
  /** The number of its worker, from 0. */
  uint32_t worker;
  /** 0. */
  uint32_t reserved;
} wharf_connection_stats;

/**
 * Tells the counters of an engine: the sums of all its servers and clients, those that are gone included.
 *
 * - engine: the engine
 * - out: receives the counters; set its struct_size
 *
 * Errors:
 * - WHARF_E_INVALID_ARGUMENT: out is NULL or its struct_size is wrong
 * - WHARF_E_STALE, WHARF_E_WRONG_KIND: no engine has this handle
 *
 * Any thread, any callback.
 */
wharf_status wharf_engine_stats(wharf_engine engine, wharf_stats *out);

/**
 * Tells the counters of a server.
 *
 * - server: the server
 * - out: receives the counters; set its struct_size
 *
 * Errors:
 * - WHARF_E_INVALID_ARGUMENT: out is NULL or its struct_size is wrong
 * - WHARF_E_STALE, WHARF_E_WRONG_KIND: no server has this handle
 *
 * Any thread, any callback.
 */
wharf_status wharf_server_stats(wharf_server server, wharf_stats *out);

/**
 * Tells the counters of a client: all its connections since it was made.
 *
 * - client: the client
 * - out: receives the counters; set its struct_size
 *
 * Errors:
 * - WHARF_E_INVALID_ARGUMENT: out is NULL or its struct_size is wrong
 * - WHARF_E_STALE, WHARF_E_WRONG_KIND: no client has this handle
 *
 * Any thread, any callback.
 */
wharf_status wharf_client_stats(wharf_client client, wharf_stats *out);

/**
 * Tells the counters of one connection.
 *
 * - conn: the connection
 * - out: receives the counters; set its struct_size
 *
 * Errors:
 * - WHARF_E_INVALID_ARGUMENT: out is NULL or its struct_size is wrong
 * - WHARF_E_STALE, WHARF_E_WRONG_KIND: no connection has this handle (any more)
 *
 * Any thread, any callback; good in on_close, too.
 */
wharf_status wharf_conn_stats(wharf_conn conn, wharf_connection_stats *out);


/*
 * ====================================================================================================
 * Faults on purpose: for tests of your own program.
 *
 * An engine that was made with WHARF_ENGINE_FAULTS does to your program what a bad network and a full system do: short
 * reads and writes, stalls, resets, no descriptor left, no room in the pool. A seed makes it do the same again. What
 * the library promises holds all the same. Any other engine has nothing of it in its way.
 */

/** How often each fault happens: in parts per million of its occasions, 0 (never) to 1000000 (always). */
typedef struct wharf_fault_plan {
  /** sizeof(wharf_fault_plan). */
  size_t struct_size;
  /** Seeds the random numbers of each connection, together with its number since the plan was set. Any number. */
  uint64_t seed;
  /** A read takes 1 to 16 bytes, so that on_receive gets pieces. */
  uint32_t short_reads_ppm;
  /** A write takes 1 to 16 bytes, so that the rest waits in the queue. */
  uint32_t short_writes_ppm;
  /** A read finds nothing for 1 to stall_ms milliseconds. */
  uint32_t read_stalls_ppm;
  /** A write finds no room for 1 to stall_ms milliseconds. */
  uint32_t write_stalls_ppm;
  /** A read or write finds the connection reset; the peer is reset, too. */
  uint32_t resets_ppm;
  /** An accept finds no descriptor left; the connection stays in the backlog, and accepting goes on in a while. */
  uint32_t accept_exhaustions_ppm;
  /** A connect finds no descriptor left: WHARF_E_TOO_MANY_FILES. */
  uint32_t connect_exhaustions_ppm;
  /** A wharf_send or wharf_sendv finds no room in the pool: WHARF_E_POOL_EXHAUSTED, and on_writable follows. */
  uint32_t pool_exhaustions_ppm;
  /** The longest stall: milliseconds, up to 60000. 0: 20. */
  uint32_t stall_ms;
  /** Must be 0. */
  uint32_t reserved;
} wharf_fault_plan;

/**
 * From now on faults happen as a plan says, on all connections of the engine, those that are open included.
 *
 * - engine: an engine that was made with WHARF_ENGINE_FAULTS
 * - plan: the plan; copied. NULL: no faults any more
 * - error: receives the details; may be NULL
 *
 * Stalls that have begun end in their time. Connections that are open keep the random numbers that they draw from; new
 * ones count from 1.
 *
 * Errors:
 * - WHARF_E_STATE: the engine was made without WHARF_ENGINE_FAULTS
 * - WHARF_E_INVALID_ARGUMENT: struct_size is wrong, or a field is out of range; the message names it
 * - WHARF_E_STALE, WHARF_E_WRONG_KIND: no engine has this handle
 *
 * Any thread, any callback.
 */
wharf_status wharf_engine_set_faults(wharf_engine engine, const wharf_fault_plan *plan, wharf_error *error);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* WHARF_H */
