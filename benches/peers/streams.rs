//! Event streams: servers that write one chunk after another, each with the time of its writing, and clients that read
//! the clock when they have it. Both are in this process, so it is one clock.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use paddock::clock::Clock;

use super::message;

pub const STREAMS: u32 = 32;
/// Between two chunks of one stream: a hundred tokens a second.
pub const CHUNK_EVERY: Duration = Duration::from_millis(10);
/// How long all streams may take to begin.
const BEGIN_MAX: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(5);
const HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
/// What stands before the time in a chunk, and how many digits of nanoseconds that has.
const MARK: &[u8] = b"\"written\":\"";
const DIGITS: usize = 16;

/// Two servers; the connections whose request has come.
pub struct Streams {
    addrs: [SocketAddr; 2],
    begun: Arc<Mutex<Vec<TcpStream>>>,
    clock: Clock,
}

impl Streams {
    pub fn start() -> Self {
        let begun = Arc::<Mutex<Vec<TcpStream>>>::default();
        let addrs = [(); 2].map(|()| {
            let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
            let addr = listener.local_addr().unwrap();
            let begun = begun.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let begun = begun.clone();
                    std::thread::spawn(move || begin(stream.unwrap(), &begun));
                }
            });
            addr
        });
        Self { addrs, begun, clock: Clock::start() }
    }

    pub fn addrs(&self) -> [SocketAddr; 2] {
        self.addrs
    }

    /// One turn: so many streams through `addr`, and the sorted seconds from each chunk's write to its read.
    pub fn turn(&self, addr: SocketAddr, request: &[u8], turn: Duration) -> Vec<f64> {
        let readers: Vec<_> = (0..STREAMS)
            .map(|_| {
                let (request, clock) = (request.to_vec(), self.clock);
                std::thread::spawn(move || read(addr, &request, clock))
            })
            .collect();
        let mut streams = self.begun();
        let pause = CHUNK_EVERY / STREAMS;
        let (begun, mut due, mut written) = (self.clock.mono().0, Duration::ZERO, 0);
        while due < turn {
            std::thread::sleep(due.saturating_sub(self.clock.mono().0 - begun));
            let stream = written % streams.len();
            streams[stream].write_all(&chunk(self.clock)).unwrap();
            written += 1;
            due += pause;
        }
        for stream in &mut streams {
            stream.write_all(b"0\r\n\r\n").unwrap();
        }
        drop(streams);
        let mut seconds: Vec<f64> = readers.into_iter().flat_map(|reader| reader.join().unwrap()).collect();
        assert_eq!(seconds.len(), written, "every chunk arrives");
        seconds.sort_by(f64::total_cmp);
        seconds
    }

    /// The streams, once all have begun.
    fn begun(&self) -> Vec<TcpStream> {
        let from = self.clock.mono().0;
        while self.begun.lock().unwrap().len() < STREAMS as usize {
            assert!(self.clock.mono().0 - from < BEGIN_MAX, "not every stream begins");
            std::thread::sleep(LOOK_EVERY);
        }
        std::mem::take(&mut *self.begun.lock().unwrap())
    }
}

/// Reads a connection's requests. A `GET` is answered; anything else begins a stream.
fn begin(mut stream: TcpStream, begun: &Mutex<Vec<TcpStream>>) {
    stream.set_nodelay(true).unwrap();
    let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
    loop {
        while let Some(end) = message::end(&bytes) {
            if !bytes.starts_with(b"GET") {
                stream.write_all(HEAD).unwrap();
                begun.lock().unwrap().push(stream);
                return;
            }
            bytes.drain(..end);
            if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_err() {
                return;
            }
        }
        match stream.read(&mut part) {
            Ok(count @ 1..) => bytes.extend_from_slice(&part[..count]),
            Ok(0) | Err(_) => return,
        }
    }
}

/// As long as a chunk of a chat.
fn chunk(clock: Clock) -> Vec<u8> {
    let written = clock.mono().0.as_nanos();
    let event = format!(
        "data: {{\"choices\":[{{\"finish_reason\":null,\"index\":0,\"delta\":{{\"content\":\" word\"}}}}],\"created\":1,\
         \"id\":\"chatcmpl-1\",\"model\":\"tiny\",\"object\":\"chat.completion.chunk\",\"written\":\"{written:0DIGITS$}\"}}\n\n"
    );
    format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()
}

/// One client: the seconds that each chunk took, to the end of the stream.
fn read(addr: SocketAddr, request: &[u8], clock: Clock) -> Vec<f64> {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(request).unwrap();
    let (mut bytes, mut part, mut seconds) = (Vec::new(), [0; 16384], Vec::new());
    let mut is_begun = false;
    loop {
        let count = stream.read(&mut part).unwrap();
        let now = clock.mono().0;
        bytes.extend_from_slice(&part[..count]);
        if !is_begun && message::head_end(&bytes).is_some() {
            assert!(bytes.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&bytes));
            is_begun = true;
        }
        while let Some((written, end)) = next_mark(&bytes) {
            seconds.push(now.saturating_sub(written).as_secs_f64());
            bytes.drain(..end);
        }
        if count == 0 || bytes.ends_with(b"\r\n0\r\n\r\n") {
            return seconds;
        }
    }
}

/// The first chunk's time, and where that ends.
fn next_mark(bytes: &[u8]) -> Option<(Duration, usize)> {
    let from = bytes.windows(MARK.len()).position(|window| window == MARK)? + MARK.len();
    let digits = std::str::from_utf8(bytes.get(from..from + DIGITS)?).unwrap();
    Some((Duration::from_nanos(digits.parse().unwrap()), from + DIGITS))
}
