//! Responses: framing that two readers could take in two ways, floods, bombs, slow answers, redirects. Beside each a
//! response that differs in one respect and arrives.

use std::net::SocketAddr;
use std::time::Duration;

use http::Method;
use sgen_egress::{Request, Response, Timeouts};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::exchange;
use crate::kit::{get, raw, raw_answer};
use crate::lab::Lab;
use crate::tally::{Outcome, Tally};

const UNUSABLE: &str = "the downstream's response is unusable: ";
const NOT_HTTP: &str = "it is not valid HTTP";
const FRAMING: &str = "its length is given in two ways";
const CODED: &str = "its transfer is coded";
const ENCODED: &str = "it is compressed";
const RESET: &str = "the connection to";

/// The most bytes of a body in these vectors.
const CAP: u64 = 1000;
/// How long an answer may take in the vectors about time.
const SHORT: Duration = Duration::from_millis(300);

const OK: &str = "HTTP/1.1 200 OK\r\n";

/// After the status line: what is refused, with words of the reason.
const REFUSED: [(&str, &str); 33] = [
    ("content-length: 2\r\ncontent-length: 2\r\n\r\nok", FRAMING),
    ("content-length: 2\r\ncontent-length: 3\r\n\r\nok!", NOT_HTTP),
    ("content-length: 2, 2\r\n\r\nok", FRAMING),
    ("content-length: 2, 3\r\n\r\nok!", NOT_HTTP),
    ("content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", FRAMING),
    ("transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n", FRAMING),
    ("transfer-encoding: chunked\r\nContent-Length: 0\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", FRAMING),
    ("transfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", CODED),
    ("transfer-encoding: chunked, identity\r\n\r\nok", CODED),
    ("transfer-encoding: identity\r\n\r\nok", CODED),
    ("transfer-encoding: gzip\r\n\r\nok", CODED),
    ("transfer-encoding: xchunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", CODED),
    ("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", CODED),
    ("content-length: -1\r\n\r\nok", NOT_HTTP),
    ("content-length: +2\r\n\r\nok", NOT_HTTP),
    ("content-length: 0x2\r\n\r\nok", NOT_HTTP),
    ("content-length: 2 2\r\n\r\nok", NOT_HTTP),
    ("content-length:\r\n\r\nok", NOT_HTTP),
    ("content-length: 99999999999999999999999\r\n\r\nok", NOT_HTTP),
    ("content-length: 1001\r\n\r\n", "its body has more than 1000 bytes"),
    ("content-length: 18446744073709551615\r\n\r\n", UNUSABLE),
    ("content-length : 2\r\n\r\nok", NOT_HTTP),
    ("transfer-encoding: chunked\r\n\r\nzz\r\n", NOT_HTTP),
    ("transfer-encoding: chunked\r\n\r\n-1\r\n", NOT_HTTP),
    ("transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n", NOT_HTTP),
    ("x-a: 1\r\n folded: 2\r\ncontent-length: 2\r\n\r\nok", NOT_HTTP),
    ("a b: c\r\ncontent-length: 2\r\n\r\nok", NOT_HTTP),
    ("no colon\r\ncontent-length: 2\r\n\r\nok", NOT_HTTP),
    ("x-a: \0\r\ncontent-length: 2\r\n\r\nok", NOT_HTTP),
    ("content-encoding: gzip\r\ncontent-length: 2\r\n\r\nok", ENCODED),
    ("content-encoding: identity, gzip\r\ncontent-length: 2\r\n\r\nok", ENCODED),
    ("content-encoding: identity\r\ncontent-encoding: br\r\ncontent-length: 2\r\n\r\nok", ENCODED),
    ("content-encoding: zstd\r\ncontent-length: 2\r\n\r\nok", ENCODED),
];

const ALLOWED: [&str; 12] = [
    "content-length: 2\r\n\r\nok",
    "Content-Length: 2\r\n\r\nok",
    "content-length:2\r\n\r\nok",
    "transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "Transfer-Encoding: Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "transfer-encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
    "transfer-encoding: chunked\r\n\r\n2;extension=1\r\nok\r\n0\r\n\r\n",
    "transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-trailer: 1\r\n\r\n",
    "connection: close\r\n\r\nok",
    "content-encoding: identity\r\ncontent-length: 2\r\n\r\nok",
    "content-type: application/gzip\r\ncontent-length: 2\r\n\r\nok",
    "x-content-length: 3\r\ncontent-length: 2\r\n\r\nok",
];

/// Whole answers that are refused.
const NO_RESPONSE: [(&str, &str); 10] = [
    ("SSH-2.0-OpenSSH_9.6\r\n", NOT_HTTP),
    ("220 smtp.example ESMTP\r\n", NOT_HTTP),
    ("HTTP/0.9 200 OK\r\n\r\n", NOT_HTTP),
    ("HTTP/3.0 200 OK\r\n\r\n", NOT_HTTP),
    ("HTTP/1.1 abc\r\n\r\n", NOT_HTTP),
    ("HTTP/1.1 20 OK\r\n\r\n", NOT_HTTP),
    ("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", "switches protocols"),
    ("", RESET),
    ("HTTP/1.1 200 OK\r\ncontent-le", RESET),
    ("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc", RESET),
];

const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];

pub(crate) async fn run(lab: &Lab, tally: &mut Tally) {
    for (rest, words) in REFUSED {
        let outcome = answered(lab, format!("{OK}{rest}")).await;
        tally.refused(format_args!("the response {rest:?}"), words, &outcome);
    }
    for rest in ALLOWED {
        let outcome = answered(lab, format!("{OK}{rest}")).await;
        tally.allowed(format_args!("the response {rest:?}"), "200 ok", &outcome);
    }
    for (answer, words) in NO_RESPONSE {
        let outcome = answered(lab, answer).await;
        tally.refused(format_args!("the answer {answer:?}"), words, &outcome);
    }
    floods(lab, tally).await;
    slow(lab, tally).await;
    redirects(lab, tally).await;
}

fn described(response: Response) -> String {
    format!("{} {}", response.status, String::from_utf8_lossy(&response.body))
}

/// What comes of a request that is answered with these bytes.
async fn answered(lab: &Lab, answer: impl Into<Vec<u8>>) -> Outcome {
    asked(lab, raw_answer(answer).await, Timeouts::of(Duration::from_secs(20))).await
}

async fn asked(lab: &Lab, address: SocketAddr, timeouts: Timeouts) -> Outcome {
    let change = |spec: &mut sgen_egress::EndpointSpec| (spec.max_response, spec.timeouts) = (CAP, timeouts);
    exchange::send(lab, address, change, None, get("/")).await.after_the_wire(described)
}

async fn floods(lab: &Lab, tally: &mut Tally) {
    let headers = |name: &str, count: usize| -> String { (0..count).map(|n| format!("{name}-{n}: 1\r\n")).collect() };
    let end = "content-length: 2\r\n\r\nok";
    for (title, head, words) in [
        ("more headers than can be read", headers("x-hidden", 2000), NOT_HTTP),
        ("more headers than a guest may see", headers("x-ratelimit", 70), "more than 64 headers for the connector"),
        ("one header of 200 kB", format!("x-hidden: {}\r\n", "x".repeat(200_000)), NOT_HTTP),
        ("a shown header of 20 kB", format!("etag: {}\r\n", "x".repeat(20_000)), "more than 16384 bytes"),
        ("a status line of 200 kB", String::new(), NOT_HTTP),
    ] {
        let start = if head.is_empty() { format!("HTTP/1.1 200 {}\r\n", "x".repeat(200_000)) } else { OK.to_owned() };
        let outcome = answered(lab, format!("{start}{head}{end}")).await;
        tally.refused(title, words, &outcome);
    }
    for (title, head) in [
        ("as many headers as a guest may see", headers("x-ratelimit", 64)),
        ("more headers that no guest sees", headers("x-hidden", 70)),
        ("a shown header of 10 kB", format!("etag: {}\r\n", "x".repeat(10_000))),
    ] {
        let outcome = answered(lab, format!("{OK}{head}{end}")).await;
        tally.allowed(title, "200 ok", &outcome);
    }

    // A gzip member that becomes ten megabytes is refused unread; the same bytes as what they are, arrive.
    let bomb = gzip_of_zeros();
    for (title, encoding, passes) in
        [("a decompression bomb", "content-encoding: gzip\r\n", false), ("its bytes", "", true)]
    {
        let mut answer = format!("{OK}{encoding}content-length: {}\r\n\r\n", bomb.len()).into_bytes();
        answer.extend_from_slice(&bomb);
        let address = raw_answer(answer).await;
        let exchange = exchange::send(lab, address, |spec| spec.max_response = 1 << 20, None, get("/")).await;
        let outcome = exchange.after_the_wire(|response| format!("{} bytes", response.body.len()));
        match passes {
            true => tally.allowed(title, &format!("{} bytes", bomb.len()), &outcome),
            false => tally.refused(title, ENCODED, &outcome),
        }
    }

    let endless = raw(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(65_536));
        while stream.write_all(chunk.as_bytes()).await.is_ok() {}
    })
    .await;
    let outcome = asked(lab, endless, Timeouts::of(Duration::from_secs(20))).await;
    tally.refused("a body without end", "its body has more than 1000 bytes", &outcome);
    let exact = answered(lab, format!("{OK}content-length: {CAP}\r\n\r\n{}", "x".repeat(1000))).await;
    tally.allowed("a body of exactly the cap", &format!("200 {}", "x".repeat(1000)), &exact);
}

/// Ten megabytes of zeros as one gzip member: stored blocks would be as long, so this is one run-length pair repeated, as
/// RFC 1951 encodes it with the fixed codes: a literal 0, then matches of 258 bytes at distance 1.
fn gzip_of_zeros() -> Vec<u8> {
    let mut bits = Bits::default();
    bits.put(1, 1);
    bits.put(1, 2);
    // The fixed code of the literal 0 is 00110000, most significant bit first.
    bits.put_code(0b0011_0000, 8);
    for _ in 0..10_000_000 / 258 {
        // 285 (a match of 258): 11000101; distance 1: 00000.
        bits.put_code(0b1100_0101, 8);
        bits.put_code(0, 5);
    }
    bits.put_code(0, 7);
    let mut whole = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    whole.extend(bits.bytes);
    // Checksum and length are never looked at: nothing is decompressed.
    whole.extend([0; 8]);
    whole
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    fn put(&mut self, value: u32, count: u32) {
        for at in 0..count {
            if self.used == 0 {
                self.bytes.push(0);
            }
            *self.bytes.last_mut().unwrap() |= u8::try_from(value >> at & 1).unwrap() << self.used;
            self.used = (self.used + 1) % 8;
        }
    }

    fn put_code(&mut self, code: u32, length: u32) {
        for at in (0..length).rev() {
            self.put(code >> at & 1, 1);
        }
    }
}

async fn slow(lab: &Lab, tally: &mut Tally) {
    let silent = raw(|mut stream| async move {
        let _ = stream.read(&mut [0; 64]).await;
    })
    .await;
    // As fast as the other side reads: what bounds it is the time.
    let flooding = raw(|mut stream| async move {
        let block = b"HTTP/1.1 102 Processing\r\n\r\n".repeat(64);
        while stream.write_all(&block).await.is_ok() {}
    })
    .await;
    let hinting = raw(|mut stream| async move {
        let block = "HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\n\r\n".repeat(64);
        while stream.write_all(block.as_bytes()).await.is_ok() {}
    })
    .await;
    let trickling = raw(|mut stream| async move {
        trickle(&mut stream, b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await;
    })
    .await;
    let trickling_head = raw(|mut stream| async move {
        trickle(&mut stream, b"HTTP/1.1 200 OK\r\nx-a: ").await;
    })
    .await;
    let first_byte = Timeouts { first_byte: SHORT, total: Duration::from_secs(20) };
    for (title, address, timeouts, words) in [
        ("silence", silent, Timeouts::of(SHORT), "did not answer within 300ms"),
        ("silence, by the first byte", silent, first_byte, "did not begin to answer within 300ms"),
        ("a flood of 102", flooding, Timeouts::of(SHORT), "did not answer within 300ms"),
        ("a flood of 102, by the first byte", flooding, first_byte, "did not begin to answer within 300ms"),
        ("a flood of 103", hinting, first_byte, "did not begin to answer within 300ms"),
        ("a body byte by byte", trickling, Timeouts::of(SHORT), "did not answer within 300ms"),
        ("a head byte by byte", trickling_head, first_byte, "did not begin to answer within 300ms"),
    ] {
        let outcome = asked(lab, address, timeouts).await;
        tally.refused(title, words, &outcome);
    }
    for (title, interim) in [
        ("a few 102", "HTTP/1.1 102 Processing\r\n\r\n".repeat(3)),
        ("a 103", "HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\n\r\n".to_owned()),
        ("a 100", "HTTP/1.1 100 Continue\r\n\r\n".to_owned()),
    ] {
        let outcome = answered(lab, format!("{interim}{OK}content-length: 2\r\n\r\nok")).await;
        tally.allowed(format_args!("{title} before the answer"), "200 ok", &outcome);
    }
    let outcome = answered(lab, "HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n").await;
    tally.refused("a length that is announced and not sent", "its body has more than 1000 bytes", &outcome);
    let address = raw_answer("HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n").await;
    let head = Request { method: Method::HEAD, ..get("/") };
    let outcome = exchange::send(lab, address, |_| {}, None, head).await.after_the_wire(described);
    tally.allowed("the same to HEAD", "200 ", &outcome);
}

/// Each byte is progress, and still the whole takes too long.
async fn trickle(stream: &mut TcpStream, start: &[u8]) {
    let _ = stream.write_all(start).await;
    while stream.write_all(b"x").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A redirect reaches the guest as it is, and nobody goes where it points: not to loopback, and not to a public host.
async fn redirects(lab: &Lab, tally: &mut Tally) {
    for status in REDIRECTS {
        for target in [
            format!("http://127.0.0.1:{}/", lab.trap.port),
            format!("//127.0.0.1:{}/", lab.trap.port),
            "https://evil.example/".to_owned(),
        ] {
            let answer = format!("HTTP/1.1 {status} Elsewhere\r\nlocation: {target}\r\ncontent-length: 0\r\n\r\n");
            let outcome = answered(lab, answer).await;
            let said = match outcome.said {
                Ok(arrived) if arrived == format!("{status} ") => Err(format!("not followed: {status}")),
                said => said.map(|arrived| format!("it became {arrived:?}")),
            };
            let outcome = Outcome { said, ..outcome };
            tally.refused(format_args!("{status} to {target}"), &format!("not followed: {status}"), &outcome);
        }
    }
    let outcome = answered(lab, "HTTP/1.1 201 Created\r\nlocation: /made\r\ncontent-length: 0\r\n\r\n").await;
    tally.allowed("a location that is no redirect", "201 ", &outcome);
}
