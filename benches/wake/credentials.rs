//! A source of credentials that have nearly run out when they come, so that every call has to fetch them anew. It answers as
//! the container credentials provider does ("AWS SDKs and Tools Reference Guide, Container credential provider").

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_sdk_autoscaling::primitives::{DateTime, DateTimeFormat};
use paddock::clock::Clock;
use serde_json::json;

/// The SDK takes credentials that end within 10 s for expired.
const LEFT: Duration = Duration::from_secs(5);

/// How often credentials were fetched.
#[derive(Clone, Default)]
pub struct Fetched(Arc<AtomicUsize>);

impl Fetched {
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

pub fn serve(addr: SocketAddr, key: &str, secret: &str) -> Fetched {
    let listener = TcpListener::bind(addr).unwrap();
    let fetched = Fetched::default();
    let (counter, key, secret) = (fetched.clone(), key.to_owned(), secret.to_owned());
    std::thread::spawn(move || {
        let clock = Clock::start();
        for stream in listener.incoming() {
            let (counter, key, secret) = (counter.clone(), key.clone(), secret.clone());
            std::thread::spawn(move || answer(stream.unwrap(), clock, &counter, &key, &secret));
        }
    });
    fetched
}

fn answer(mut stream: TcpStream, clock: Clock, fetched: &Fetched, key: &str, secret: &str) {
    let mut request = Vec::new();
    let mut part = [0; 4096];
    while let Ok(count) = stream.read(&mut part)
        && count > 0
    {
        request.extend_from_slice(&part[..count]);
        if !request.ends_with(b"\r\n\r\n") {
            continue;
        }
        request.clear();
        fetched.0.fetch_add(1, Ordering::Relaxed);
        let end = DateTime::from_secs((clock.now().wall + LEFT).as_secs().cast_signed());
        let end = end.fmt(DateTimeFormat::DateTime).unwrap();
        let body =
            json!({ "AccessKeyId": key, "SecretAccessKey": secret, "Token": "token", "Expiration": end });
        let body = body.to_string();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
        let answer = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).unwrap();
    }
}
