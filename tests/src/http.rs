//! A small HTTP/1.1 client over plain sockets: enough for the admin pages and for HTTP-FLV.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long a connection, a read or a write may take before a request has failed.
const LIMIT: Duration = Duration::from_secs(10);
/// More head than any page of ours has.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Status line, headers and, for a page, its body.
#[derive(Debug)]
pub struct Response {
    /// 200, 404, …
    pub status: u16,
    /// Status line and headers as they came.
    pub head: String,
    /// The body; empty for [`open`].
    pub body: String,
}

/// GETs a page.
pub fn get(to: SocketAddr, path: &str) -> io::Result<Response> {
    request(to, "GET", path, &[], "")
}

/// The same, where a connection, a read or a write may take so long.
pub fn get_within(limit: Duration, to: SocketAddr, path: &str) -> io::Result<Response> {
    request_within(limit, to, "GET", path, &[], "")
}

/// POSTs a body of JSON.
pub fn post(to: SocketAddr, path: &str, body: &str) -> io::Result<Response> {
    request(to, "POST", path, &["Content-Type: application/json"], body)
}

/// Makes a request and reads the whole answer.
pub fn request(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[&str],
    body: &str,
) -> io::Result<Response> {
    request_within(LIMIT, to, method, path, headers, body)
}

fn request_within(
    limit: Duration,
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[&str],
    body: &str,
) -> io::Result<Response> {
    let mut socket = connect(limit, to)?;
    let mut lines = format!("{method} {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n");
    for header in headers {
        lines.push_str(header);
        lines.push_str("\r\n");
    }
    if method != "GET" {
        lines.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    socket.write_all(format!("{lines}\r\n{body}").as_bytes())?;
    let (mut response, mut rest) = head(&mut socket)?;
    match header(&response.head, "content-length").and_then(|n| n.parse::<usize>().ok()) {
        Some(length) => {
            let missing = length.saturating_sub(rest.len());
            (&mut socket).take(missing as u64).read_to_end(&mut rest)?;
        }
        None => {
            socket.read_to_end(&mut rest)?;
        }
    }
    if header(&response.head, "transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
        rest = dechunk(&rest)?;
    }
    response.body = String::from_utf8(rest).map_err(io::Error::other)?;
    Ok(response)
}

/// Sends a GET and returns at the end of the answer's head: the socket, and the first bytes of the body.
pub fn open(to: SocketAddr, path: &str) -> io::Result<(Response, Vec<u8>, TcpStream)> {
    // A declared path without media is answered only when its play.startTimeout has passed.
    open_within(LIMIT * 3, to, path)
}

/// The same with another limit for the answer's head.
pub fn open_within(
    limit: Duration,
    to: SocketAddr,
    path: &str,
) -> io::Result<(Response, Vec<u8>, TcpStream)> {
    let mut socket = connect(LIMIT.min(limit), to)?;
    socket.write_all(format!("GET {path} HTTP/1.1\r\nHost: {to}\r\n\r\n").as_bytes())?;
    socket.set_read_timeout(Some(limit))?;
    let (response, rest) = head(&mut socket)?;
    Ok((response, rest, socket))
}

/// The value of a header in a head, by its name in lower case.
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn connect(limit: Duration, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect_timeout(&to, limit)?;
    socket.set_read_timeout(Some(limit))?;
    socket.set_write_timeout(Some(limit))?;
    Ok(socket)
}

fn head(socket: &mut TcpStream) -> io::Result<(Response, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            let head = String::from_utf8(bytes).map_err(io::Error::other)?;
            let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
            let status = status.ok_or_else(|| io::Error::other(format!("no status line: {head:?}")))?;
            return Ok((Response { status, head, body: String::new() }, rest));
        }
        if bytes.len() > HEAD_BYTES_MAX {
            return Err(io::Error::other("the head of the answer does not end"));
        }
        match socket.read(&mut piece)? {
            0 => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed before the head's end")),
            n => bytes.extend_from_slice(&piece[..n]),
        }
    }
}

fn dechunk(mut bytes: &[u8]) -> io::Result<Vec<u8>> {
    let bad = || io::Error::other("bad chunked body");
    let mut body = Vec::new();
    loop {
        let line_end = bytes.windows(2).position(|two| two == b"\r\n").ok_or_else(bad)?;
        let line = std::str::from_utf8(&bytes[..line_end]).map_err(io::Error::other)?;
        let size = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
        if size == 0 {
            return Ok(body);
        }
        let data = bytes.get(line_end + 2..line_end + 2 + size).ok_or_else(bad)?;
        body.extend_from_slice(data);
        bytes = bytes.get(line_end + 2 + size + 2..).ok_or_else(bad)?;
    }
}
