//! The servers of the benchmark on tokio: a task for each connection.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::sync::Semaphore;
use wharf_bench_peers::*;

type Outbox = UnboundedSender<Arc<[u8]>>;

/// What the connections know of each other.
struct Shared {
    options: Options,
    outboxes: Mutex<Vec<(usize, Outbox)>>,
    next: AtomicUsize,
    ready: AtomicUsize,
    /// For each pushing thread, messages that it may hand over.
    credit: Vec<Arc<Semaphore>>,
}

async fn echo(mut stream: TcpStream, blocks: bool) -> std::io::Result<()> {
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

async fn each(mut stream: TcpStream) -> std::io::Result<()> {
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

async fn sink(mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = vec![0; PIECE];
    while stream.read(&mut buffer).await? > 0 {}
    stream.write_all(b"!").await
}

async fn produce(mut stream: TcpStream, count: usize) -> std::io::Result<()> {
    let piece = vec![0; PIECE];
    stream.read_u8().await?;
    for begin in (0..count).step_by(PIECE) {
        stream.write_all(&piece[..PIECE.min(count - begin)]).await?;
    }
    stream.read_u8().await.map(drop)
}

/// What others send to this connection leaves in a task of its own.
async fn with_outbox(stream: TcpStream, shared: Arc<Shared>, mode: Mode) -> std::io::Result<()> {
    let number = shared.next.fetch_add(1, Ordering::Relaxed);
    let (outbox, mut inbox) = mpsc::unbounded_channel::<Arc<[u8]>>();
    shared.outboxes.lock().unwrap().push((number, outbox));
    let (reader, mut writer) = stream.into_split();
    let credit = (mode == Mode::Push).then(|| shared.credit[number % THREADS].clone());
    let writing = tokio::spawn(async move {
        while let Some(message) = inbox.recv().await {
            let sent = writer.write_all(&message).await;
            if let Some(credit) = &credit {
                credit.add_permits(1);
            }
            if sent.is_err() {
                break;
            }
        }
    });
    let result = if mode == Mode::Push { start_push(reader, &shared).await } else { tell_all(reader, &shared).await };
    shared.outboxes.lock().unwrap().retain(|(other, _)| *other != number);
    writing.abort();
    result
}

async fn tell_all(mut reader: OwnedReadHalf, shared: &Shared) -> std::io::Result<()> {
    let size = shared.options.bytes;
    let (mut buffer, mut cutter) = (vec![0; BUFFER], Cutter::new(size));
    loop {
        let len = reader.read(&mut buffer).await?;
        if len == 0 {
            return Ok(());
        }
        for message in cutter.push(&buffer[..len]).chunks(size) {
            let message: Arc<[u8]> = message.into();
            for (_, outbox) in shared.outboxes.lock().unwrap().iter() {
                let _ = outbox.send(message.clone());
            }
        }
        cutter.done();
    }
}

async fn start_push(mut reader: OwnedReadHalf, shared: &Arc<Shared>) -> std::io::Result<()> {
    let mut buffer = [0; 16];
    loop {
        let len = reader.read(&mut buffer).await?;
        if len == 0 {
            return Ok(());
        }
        if shared.ready.fetch_add(len, Ordering::SeqCst) + len == shared.options.connections {
            for first in 0..THREADS {
                let shared = shared.clone();
                std::thread::spawn(move || push(first, &shared));
            }
        }
    }
}

fn push(first: usize, shared: &Shared) {
    let all = shared.outboxes.lock().unwrap().clone();
    let mine: Vec<_> = all.iter().filter(|(number, _)| number % THREADS == first).collect();
    for k in 0..shared.options.count {
        for (_, outbox) in &mine {
            take_credit(&shared.credit[first]);
            let _ = outbox.send(message(k).as_slice().into());
        }
    }
}

/// Waits on a thread that is none of the runtime's.
fn take_credit(credit: &Semaphore) {
    loop {
        match credit.try_acquire() {
            Ok(permit) => return permit.forget(),
            Err(_) => std::thread::sleep(Duration::from_micros(50)),
        }
    }
}

async fn serve(mode: Mode, options: Options) {
    let listener = TcpListener::from_std(listen()).unwrap();
    let credit = (0..THREADS).map(|_| Arc::new(Semaphore::new(MOST_UNSENT))).collect();
    let shared = Arc::new(Shared {
        options,
        outboxes: Mutex::default(),
        next: AtomicUsize::new(0),
        ready: AtomicUsize::new(0),
        credit,
    });
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        match mode {
            Mode::Echo | Mode::Block => drop(tokio::spawn(echo(stream, mode == Mode::Block))),
            Mode::Each => drop(tokio::spawn(each(stream))),
            Mode::Sink => drop(tokio::spawn(sink(stream))),
            Mode::Produce => drop(tokio::spawn(produce(stream, options.count))),
            Mode::Broadcast | Mode::Push => drop(tokio::spawn(with_outbox(stream, shared.clone(), mode))),
        }
    }
}

fn main() {
    let (mode, options) = arguments();
    let runtime = match options.workers {
        1 => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        workers => tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build(),
    };
    let runtime = runtime.unwrap();
    // On the workers, as a program does whose main function is a task.
    runtime.block_on(async { tokio::spawn(serve(mode, options)).await.unwrap() });
}
