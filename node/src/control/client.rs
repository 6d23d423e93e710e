//! The other end of the socket: one call, one answer.
//! Knows nothing of terminals. Every error says whether the node was reached, and what to type next is its reader's to add.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::api;
use super::problem::Problem;
use super::socket;

/// Why a call did not come to an answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens there.
    #[error("no node is running in {0}")]
    NoNode(PathBuf),
    /// Somebody else listens there.
    #[error("{0} belongs to another user")]
    NotOurs(PathBuf),
    /// The node said no. Nothing was changed unless it says so.
    #[error("{}", .0.detail)]
    Refused(Box<Problem>),
    /// The node went away, or was not understood. What was asked may have been done.
    #[error("the node broke off: {0}")]
    Broken(String),
}

type Body = BoxBody<Bytes, std::io::Error>;

/// A node that can be spoken to.
#[derive(Clone, Debug)]
pub struct Client {
    data_dir: PathBuf,
    socket: PathBuf,
}

impl Client {
    /// The node of this directory. Nothing is asked yet.
    #[must_use]
    pub fn new(data_dir: &Path) -> Client {
        Client { data_dir: data_dir.to_owned(), socket: socket::path(data_dir) }
    }

    /// Where the node keeps its things.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Whether somebody listens.
    pub async fn answers(&self) -> bool {
        self.dial().await.is_ok()
    }

    async fn dial(&self) -> Result<UnixStream, Error> {
        use std::io::ErrorKind::{ConnectionRefused, NotFound};
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| match error.kind() {
            NotFound | ConnectionRefused => Error::NoNode(self.data_dir.clone()),
            std::io::ErrorKind::PermissionDenied => Error::NotOurs(self.socket.clone()),
            _ => Error::Broken(format!("{}: {error}", self.socket.display())),
        })?;
        // In /tmp anyone could listen in our place; root may speak to everyone's node.
        match stream.peer_cred() {
            Ok(credentials) if socket::may_steer(credentials.uid()) || socket::own_uid() == 0 => Ok(stream),
            _ => Err(Error::NotOurs(self.socket.clone())),
        }
    }

    async fn call(&self, request: Request<Body>) -> Result<Response<Incoming>, Error> {
        let broken = |error: hyper::Error| Error::Broken(error.to_string());
        let (mut sender, connection) = http1::handshake(TokioIo::new(self.dial().await?)).await.map_err(broken)?;
        tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(broken)?;
        if response.status().is_success() {
            return Ok(response);
        }
        let body = response.into_body().collect().await.map_err(broken)?.to_bytes();
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Err(Error::Refused(Box::new(problem))),
            Err(_) => Err(Error::Broken(String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned())),
        }
    }

    fn request(method: Method, path: &str, kind: Option<&'static str>, body: Body) -> Result<Request<Body>, Error> {
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, "node");
        if let Some(kind) = kind {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        request.body(body).map_err(|error| Error::Broken(error.to_string()))
    }

    /// What is there.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        Ok(self.page(path).await?.body)
    }

    /// One page.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn page<T: DeserializeOwned>(&self, path: &str) -> Result<Page<T>, Error> {
        let response = self.call(Self::request(Method::GET, path, None, empty())?).await?;
        let said = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let next = said(header::LINK.as_str()).and_then(next_of).map(str::to_owned);
        let whole_since = said(api::WHOLE_SINCE).map(str::to_owned);
        Ok(Page { body: read(response).await?, next, whole_since })
    }

    /// All pages.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn all<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, Error> {
        let mut all = Vec::new();
        let mut next = Some(path.to_owned());
        while let Some(path) = next {
            let mut page = self.page::<Vec<T>>(&path).await?;
            all.append(&mut page.body);
            next = page.next;
        }
        Ok(all)
    }

    /// Asks for a deed.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Error> {
        self.with(Method::POST, path, body).await
    }

    /// Sets something.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Error> {
        self.with(Method::PUT, path, body).await
    }

    /// Takes something back, and tells what became of it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn take_back<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        read(self.call(Self::request(Method::DELETE, path, None, empty())?).await?).await
    }

    async fn with<T: DeserializeOwned>(&self, method: Method, path: &str, body: &impl Serialize) -> Result<T, Error> {
        let body = serde_json::to_vec(body).map_err(|error| Error::Broken(error.to_string()))?;
        let body = Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed();
        read(self.call(Self::request(method, path, Some("application/json"), body)?).await?).await
    }

    /// Takes something away.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete(&self, path: &str) -> Result<(), Error> {
        self.call(Self::request(Method::DELETE, path, None, empty())?).await.map(drop)
    }

    /// Asks for a deed that needs no more words.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn tell<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        read(self.call(Self::request(Method::POST, path, None, empty())?).await?).await
    }

    /// Bytes as they come.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn bytes(&self, path: &str) -> Result<Pieces, Error> {
        Ok(Pieces { body: self.call(Self::request(Method::GET, path, None, empty())?).await?.into_body() })
    }

    /// Bytes as they come, of what is made when it is asked for.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn bytes_of_deed(&self, path: &str) -> Result<Pieces, Error> {
        Ok(Pieces { body: self.call(Self::request(Method::POST, path, None, empty())?).await?.into_body() })
    }

    /// Sends lines and gets lines, both as long as they last: `/v1/letters/batch`, `/v1/orders/batch`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn batch<B>(&self, path: &str, lines: B) -> Result<Lines, Error>
    where
        B: hyper::body::Body<Data = Bytes, Error = std::io::Error> + Send + Sync + 'static,
    {
        let request = Self::request(Method::POST, path, Some("application/x-ndjson"), lines.boxed())?;
        Ok(Lines::new(self.call(request).await?.into_body()))
    }

    /// Follows the node's record, from now or after an event. Whatever happens after this call returns is told.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn events(&self, after: Option<u64>) -> Result<Events, Error> {
        let path = after.map_or_else(|| "/v1/events".to_owned(), |after| format!("/v1/events?after={after}"));
        let response = self.call(Self::request(Method::GET, &path, None, empty())?).await?;
        Ok(Events { lines: Lines::new(response.into_body()) })
    }
}

/// A part of a list.
#[derive(Debug)]
pub struct Page<T> {
    /// What was asked for.
    pub body: T,
    /// The path of the next.
    pub next: Option<String>,
    /// Of the record: what was written before this is not all kept any more.
    pub whole_since: Option<String>,
}

fn empty() -> Body {
    Full::new(Bytes::new()).map_err(|never| match never {}).boxed()
}

async fn read<T: DeserializeOwned>(response: Response<Incoming>) -> Result<T, Error> {
    let body = response.into_body().collect().await.map_err(|error| Error::Broken(error.to_string()))?.to_bytes();
    serde_json::from_slice(&body).map_err(|error| Error::Broken(format!("its answer is not understood: {error}")))
}

fn next_of(link: &str) -> Option<&str> {
    link.strip_prefix('<')?.strip_suffix(">; rel=\"next\"")
}

/// Text for a query: everything but letters, digits and `-._~` escaped.
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out += &format!("%{byte:02X}");
        }
    }
    out
}

/// Lines of an answer that is still coming.
#[derive(Debug)]
pub struct Lines {
    body: Incoming,
    unread: BytesMut,
    ready: VecDeque<Bytes>,
}

impl Lines {
    fn new(body: Incoming) -> Lines {
        Lines { body, unread: BytesMut::new(), ready: VecDeque::new() }
    }

    /// The next line without its end; none after the last.
    ///
    /// # Errors
    /// The node went away.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Ok(Some(line));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(Error::Broken(error.to_string())),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.unread.extend_from_slice(&data);
                    }
                }
            }
            while let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let mut line = self.unread.split_to(end + 1);
                line.truncate(end);
                self.ready.push_back(line.freeze());
            }
        }
    }

    /// Whether the next line is here already.
    #[must_use]
    pub fn more_is_here(&self) -> bool {
        !self.ready.is_empty()
    }
}

/// Bytes of an answer that is still coming.
#[derive(Debug)]
pub struct Pieces {
    body: Incoming,
}

impl Pieces {
    /// The next some; none at the end.
    ///
    /// # Errors
    /// The node went away, or could not get at the rest: what came is not all.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(Error::Broken(error.to_string())),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

/// The node's record as it grows.
#[derive(Debug)]
pub struct Events {
    lines: Lines,
}

impl Events {
    /// The next event; none when the node ends the stream. Kinds that this version does not know are left out.
    ///
    /// # Errors
    /// The node went away.
    pub async fn next(&mut self) -> Result<Option<api::Event>, Error> {
        while let Some(line) = self.lines.next().await? {
            let data = line.strip_prefix(b"data:").map(<[u8]>::trim_ascii);
            if let Some(event) = data.and_then(|data| serde_json::from_slice(data).ok()) {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }
}
