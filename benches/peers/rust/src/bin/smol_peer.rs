//! The servers of the benchmark on smol, as its examples are written: a task for each connection.

use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use smol::channel::{self, Sender};
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::Async;
use wharf_bench_peers::*;

type Stream = Async<TcpStream>;
type Outbox = Sender<Arc<[u8]>>;

struct Shared {
    options: Options,
    outboxes: Mutex<Vec<(usize, Outbox)>>,
    next: AtomicUsize,
    ready: AtomicUsize,
}

async fn echo(mut stream: Stream, blocks: bool) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let len = stream.read(&mut buffer).await?;
        if len == 0 {
            return Ok(());
        }
        if blocks && buffer[0] == b'B' {
            std::thread::sleep(Duration::from_millis(50));
        }
        stream.write_all(&buffer[..len]).await?;
    }
}

async fn each(mut stream: Stream) -> std::io::Result<()> {
    let (mut buffer, mut cutter) = (vec![0; BUFFER], Cutter::new(MESSAGE));
    loop {
        let len = stream.read(&mut buffer).await?;
        if len == 0 {
            return Ok(());
        }
        for message in cutter.push(&buffer[..len]).chunks(MESSAGE) {
            stream.write_all(message).await?;
        }
        cutter.done();
    }
}

async fn sink(mut stream: Stream) -> std::io::Result<()> {
    let mut buffer = vec![0; PIECE];
    while stream.read(&mut buffer).await? > 0 {}
    stream.write_all(b"!").await
}

async fn produce(mut stream: Stream, count: usize) -> std::io::Result<()> {
    let (piece, mut byte) = (vec![0; PIECE], [0]);
    stream.read_exact(&mut byte).await?;
    for begin in (0..count).step_by(PIECE) {
        stream.write_all(&piece[..PIECE.min(count - begin)]).await?;
    }
    stream.read_exact(&mut byte).await
}

/// What others send to this connection leaves in a task of its own; a full channel makes them wait.
async fn with_outbox(
    stream: Stream,
    shared: Arc<Shared>,
    mode: Mode,
    executor: &'static smol::LocalExecutor<'static>,
) -> std::io::Result<()> {
    let number = shared.next.fetch_add(1, Ordering::Relaxed);
    let room = MOST_UNSENT * THREADS / shared.options.connections.max(1);
    let (outbox, inbox) =
        if mode == Mode::Push { channel::bounded::<Arc<[u8]>>(room.max(1)) } else { channel::unbounded() };
    shared.outboxes.lock().unwrap().push((number, outbox));
    let stream = Arc::new(stream);
    let to = stream.clone();
    let writing = executor.spawn(async move {
        while let Ok(message) = inbox.recv().await {
            if (&*to).write_all(&message).await.is_err() {
                break;
            }
        }
    });
    let result = match mode {
        Mode::Push => start_push(&stream, &shared).await,
        _ => tell_all(&stream, &shared).await,
    };
    shared.outboxes.lock().unwrap().retain(|(other, _)| *other != number);
    drop(writing);
    result
}

async fn tell_all(mut stream: &Stream, shared: &Shared) -> std::io::Result<()> {
    let size = shared.options.bytes;
    let (mut buffer, mut cutter) = (vec![0; BUFFER], Cutter::new(size));
    loop {
        let len = stream.read(&mut buffer).await?;
        if len == 0 {
            return Ok(());
        }
        for message in cutter.push(&buffer[..len]).chunks(size) {
            let message: Arc<[u8]> = message.into();
            for (_, outbox) in shared.outboxes.lock().unwrap().iter() {
                let _ = outbox.try_send(message.clone());
            }
        }
        cutter.done();
    }
}

async fn start_push(mut stream: &Stream, shared: &Arc<Shared>) -> std::io::Result<()> {
    let mut buffer = [0; 16];
    loop {
        let len = stream.read(&mut buffer).await?;
        if len == 0 {
            return Ok(());
        }
        if shared.ready.fetch_add(len, Ordering::SeqCst) + len == shared.options.connections {
            for first in 0..THREADS {
                let shared = shared.clone();
                std::thread::spawn(move || {
                    let all = shared.outboxes.lock().unwrap().clone();
                    let mine: Vec<_> = all.iter().filter(|(number, _)| number % THREADS == first).collect();
                    for k in 0..shared.options.count {
                        for (_, outbox) in &mine {
                            let _ = outbox.send_blocking(message(k).as_slice().into());
                        }
                    }
                });
            }
        }
    }
}

fn main() {
    let (mode, options) = arguments();
    if options.workers != 1 {
        unsupported("a local executor is one thread");
    }
    let executor: &'static smol::LocalExecutor<'static> = Box::leak(Box::new(smol::LocalExecutor::new()));
    smol::block_on(executor.run(async {
        let listener = Async::<TcpListener>::try_from(listen()).unwrap();
        let shared = Arc::new(Shared {
            options,
            outboxes: Mutex::default(),
            next: AtomicUsize::new(0),
            ready: AtomicUsize::new(0),
        });
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let _ = stream.get_ref().set_nodelay(true);
            match mode {
                Mode::Echo | Mode::Block => executor.spawn(echo(stream, mode == Mode::Block)).detach(),
                Mode::Each => executor.spawn(each(stream)).detach(),
                Mode::Sink => executor.spawn(sink(stream)).detach(),
                Mode::Produce => executor.spawn(produce(stream, options.count)).detach(),
                Mode::Broadcast | Mode::Push => {
                    executor.spawn(with_outbox(stream, shared.clone(), mode, executor)).detach()
                }
            }
        }
    }));
}
