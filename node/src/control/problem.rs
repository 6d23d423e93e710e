//! Errors as the API says them: `application/problem+json` (RFC 9457).
//! Knows nothing of routes. Every problem says what happened, that nothing was kept where that is so, and what to do next.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use protocol::Refusal;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What went wrong, for a reader of any kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Document", from = "Document")]
pub struct Problem {
    /// The kind, for programs.
    pub code: Code,
    /// What happened this time.
    pub detail: String,
    /// What to do next.
    pub hint: Option<String>,
    /// What may have been meant.
    pub candidates: Vec<String>,
    /// The line of a batch, from 1.
    pub line: Option<u64>,
}

/// As RFC 9457 has it: type, title and status follow from the code.
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct Document {
    #[serde(rename = "type")]
    kind: String,
    title: String,
    status: u16,
    detail: String,
    code: Code,
    hint: Option<String>,
    candidates: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
}

impl From<Problem> for Document {
    fn from(problem: Problem) -> Document {
        let Problem { code, detail, hint, candidates, line } = problem;
        let kind = format!("urn:swarm:problem:{}", code.word());
        Document { kind, title: code.title().to_owned(), status: code.status(), detail, code, hint, candidates, line }
    }
}

impl From<Document> for Problem {
    fn from(document: Document) -> Problem {
        let Document { code, detail, hint, candidates, line, .. } = document;
        Problem { code, detail, hint, candidates, line }
    }
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $code:ident = $word:literal, $status:literal, $title:literal;)+) => {
        /// The kinds of problem.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum Code { $($(#[doc = $doc])+ $code,)+ }

        impl Code {
            /// All of them.
            pub const ALL: &'static [Code] = &[$(Code::$code),+];

            /// The word in the API.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Code::$code => $word,)+ }
            }

            /// The HTTP status.
            #[must_use]
            pub fn status(self) -> u16 {
                match self { $(Code::$code => $status,)+ }
            }

            fn title(self) -> &'static str {
                match self { $(Code::$code => $title,)+ }
            }
        }
    };
}

codes! {
    /// Not JSON, an unknown or doubled field, a value of another kind.
    Malformed = "malformed", 400, "the request is not understood";
    /// A place in the record that somebody else has given, who kept it before.
    OtherKeeper = "other_keeper", 410, "another node keeps the record now";
    /// An address that is none.
    BadAddress = "bad_address", 400, "not an address";
    /// A name that nobody can have.
    BadName = "bad_name", 400, "not a name";
    /// Nothing is there.
    NoSuchRoute = "no_such_route", 404, "nothing is there";
    /// Something is there, but not for this method.
    MethodNotAllowed = "method_not_allowed", 405, "this method is not for that";
    /// The body is not of the type the route takes.
    UnsupportedMediaType = "unsupported_media_type", 415, "the body is of another type than expected";
    /// The body took too long.
    TooSlow = "too_slow", 408, "the request took too long";
    /// Too many connections, readers of events or batches at once.
    Busy = "busy", 503, "too many at once";
    /// A letter to nobody.
    NoRecipient = "no_recipient", 422, "no recipient";
    /// A letter without content.
    Empty = "empty", 422, "empty letter";
    /// More recipients than allowed.
    TooManyRecipients = "too_many_recipients", 422, "too many recipients";
    /// More bytes than allowed.
    TooLarge = "too_large", 413, "too large";
    /// A type of envelope that is not for users.
    KindNotWritable = "kind_not_writable", 422, "letters of this type cannot be written";
    /// Nobody of that name is known.
    UnknownPeer = "unknown_peer", 404, "unknown name";
    /// Several of that name are known.
    AmbiguousPeer = "ambiguous_peer", 409, "ambiguous name";
    /// The only recipient is the node itself.
    Yourself = "yourself", 422, "a letter to oneself";
    /// No letter of that id or number.
    UnknownLetter = "unknown_letter", 404, "unknown letter";
    /// Several letters begin so.
    AmbiguousLetter = "ambiguous_letter", 409, "ambiguous id";
    /// No order of that number.
    UnknownOrder = "unknown_order", 404, "unknown order";
    /// An order of somebody else.
    NotYours = "not_yours", 403, "somebody else's order";
    /// It had ended already.
    AlreadyEnded = "already_ended", 409, "it had ended already";
    /// An argument or a part of an order that cannot be given to a program.
    BadOrder = "bad_order", 422, "the order cannot be placed";
    /// `once` is not supported yet.
    OnceNotSupported = "once_not_supported", 422, "orders that run at most once are not supported yet";
    /// Too many orders of this node have not ended.
    OrdersFull = "orders_full", 503, "too many open orders";
    /// An offer that cannot be.
    BadOffer = "bad_offer", 422, "the service cannot be offered";
    /// This node offers as many as it may.
    OffersFull = "offers_full", 503, "too many services";
    /// This node offers no such service.
    NotOffered = "not_offered", 404, "not offered here";
    /// Only the dispatcher can do that.
    NotDispatcher = "not_dispatcher", 409, "this node is not the dispatcher";
    /// A peer did not answer in time.
    NoAnswer = "no_answer", 504, "no answer came in time";
    /// There is no output yet, or not any more.
    NoOutput = "no_output", 409, "there is no output";
    /// All recipients of a letter that was to be discarded have it.
    Delivered = "delivered", 409, "the letter is delivered";
    /// Too much waits for receipts.
    OutboxFull = "outbox_full", 503, "the outbox is full";
    /// The disk is below its reserve.
    DiskLow = "disk_low", 507, "the disk is almost full";
    /// The idempotency key is empty or too long, or given twice.
    BadKey = "bad_key", 400, "not an idempotency key";
    /// The idempotency key belongs to something else.
    KeyReused = "key_reused", 409, "the key was used for something else";
    /// Nobody was reached there.
    NotReached = "not_reached", 502, "nobody was reached";
    /// The node is stopping.
    Stopping = "stopping", 503, "the node is stopping";
    /// Another process with the node's key is running.
    Cloned = "cloned", 409, "the node runs twice";
    /// The disk cannot be read.
    Disk = "disk", 500, "the disk cannot be read";
    /// The node is at fault.
    Internal = "internal", 500, "the node is at fault";
}

impl Problem {
    /// A problem of this kind.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Problem {
        Problem { code, detail: detail.into(), hint: None, candidates: Vec::new(), line: None }
    }

    /// What to do next.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Problem {
        Problem { hint: Some(hint.into()), ..self }
    }

    /// What may have been meant.
    #[must_use]
    pub fn candidates(self, candidates: Vec<String>) -> Problem {
        Problem { candidates, ..self }
    }

    /// Which line of a batch it is about.
    #[must_use]
    pub fn line(self, line: u64) -> Problem {
        Problem { line: Some(line), ..self }
    }

    /// A request that is not understood.
    #[must_use]
    pub fn malformed(detail: impl Into<String>) -> Problem {
        Problem::new(Code::Malformed, detail)
    }

    /// There is no room for one more of these now.
    #[must_use]
    pub fn busy(what: &str) -> Problem {
        Problem::new(Code::Busy, format!("the node is busy: {what}")).hint("nothing was done; end some of them, or try again")
    }

    /// The disk cannot be read.
    #[must_use]
    pub fn disk(error: impl Into<String>) -> Problem {
        Problem::new(Code::Disk, error)
            .hint("look at what the node itself says; if the disk is at fault, stop it and bring its directory back from a copy")
    }

    /// The node does not answer any more.
    #[must_use]
    pub fn stopping() -> Problem {
        Refusal::Leaving.into()
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        let detail = refusal.to_string();
        let new = |code| Problem::new(code, detail);
        match refusal {
            Refusal::NoRecipient => new(Code::NoRecipient).hint("name at least one peer in `to`"),
            Refusal::Empty => new(Code::Empty).hint("nothing was sent; give the letter a text"),
            Refusal::TooManyRecipients { .. } => new(Code::TooManyRecipients).hint("nothing was sent; send several letters"),
            Refusal::TooLarge { .. } => new(Code::TooLarge).hint("nothing was sent; send it in parts"),
            Refusal::TooLargeTogether { .. } => new(Code::TooLarge).hint("nothing was sent; send it to fewer peers at a time"),
            Refusal::Kind(_) => {
                new(Code::KindNotWritable).hint("nothing was sent; a letter is of type \"message\", and its payload is a text")
            }
            Refusal::Unknown { nearest, .. } => new(Code::UnknownPeer)
                .hint("nothing was sent; to wait for the first peer of that name say \"later\": true")
                .candidates(nearest),
            Refusal::Ambiguous { candidates, .. } => {
                new(Code::AmbiguousPeer).hint("nothing was sent; name one of the candidates").candidates(candidates)
            }
            Refusal::Yourself { .. } => new(Code::Yourself).hint("nothing was sent"),
            Refusal::OutboxFull { .. } | Refusal::OutboxBytesFull { .. } => {
                new(Code::OutboxFull).hint("nothing was sent; try again when some of those that wait are delivered")
            }
            Refusal::DiskLow { .. } => new(Code::DiskLow).hint("nothing was sent; make room on the disk and try again"),
            Refusal::Key { .. } => new(Code::BadKey).hint("nothing was sent"),
            Refusal::KeyReused { letter } => {
                new(Code::KeyReused).hint(format!("nothing was sent; use another key, or see the other letter: node sent {letter}"))
            }
            Refusal::DiskUnreadable => new(Code::Disk).hint("nothing was sent"),
            Refusal::KeyInUse => new(Code::KeyReused).hint("nothing was sent; use another key for another letter"),
            Refusal::Cloned => new(Code::Cloned).hint(
                "nothing was sent; stop one of the two copies and give it a directory of its own (node run --name NEW), then restart the other",
            ),
            Refusal::OrderTooLarge { .. } => new(Code::TooLarge).hint("nothing was ordered; place several orders"),
            Refusal::Nul => new(Code::BadOrder).hint("nothing was ordered; give such bytes on standard input: node order --stdin"),
            Refusal::OrdersFull { .. } | Refusal::OrderBytesFull { .. } => new(Code::OrdersFull)
                .hint("nothing was ordered; try again when some have ended, or cancel what nobody needs: node tasks --mine, node cancel ID"),
            Refusal::NoSuchOrder { .. } => new(Code::UnknownOrder).hint("orders of this node: node tasks --mine"),
            Refusal::OrderKeyReused { number } => {
                new(Code::KeyReused).hint(format!("nothing was ordered; use another key, or see that order: node task {number}"))
            }
            Refusal::Expires => new(Code::BadOrder).hint("nothing was ordered; give it some time, like --expires 5m"),
            Refusal::ExpiresLate { .. } => new(Code::BadOrder).hint("nothing was ordered; leave the time out, and it never expires"),
            Refusal::Once => new(Code::OnceNotSupported).hint("nothing was ordered; leave out --once if it may run again after a crash"),
            Refusal::Offer(_) => new(Code::BadOffer).hint("nothing was changed; see: node offer --help"),
            Refusal::TooManyServices { .. } => {
                new(Code::OffersFull).hint("nothing was changed; first take one back: node withdraw NAME (which: node services)")
            }
            Refusal::NotOffered(_) => new(Code::NotOffered).hint("what this node offers: node services"),
            Refusal::NotLeading => new(Code::NotDispatcher).hint("see who is: node dispatcher, and ask there"),
            Refusal::NotReachable(_) => new(Code::NotReached).hint("who is here: node peers"),
            Refusal::NoAnswer => new(Code::NoAnswer).hint("it may be busy; try again"),
            Refusal::TooManyQuestions => new(Code::Busy).hint("try again in a moment"),
            Refusal::Delivered { .. } => new(Code::Delivered).hint("what has arrived cannot be called back"),
            Refusal::Sealing { .. } => new(Code::Busy).hint("it was not discarded; try again"),
            Refusal::Leaving => new(Code::Stopping).hint("start it again and repeat the request"),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).expect("a problem is texts and numbers");
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_one_word_and_reads_back() {
        for code in Code::ALL {
            let problem = Problem::new(*code, "x");
            let text = serde_json::to_string(&problem).expect("a problem is texts and numbers");
            assert!(text.contains(&format!("\"code\":\"{}\"", code.word())), "{text}");
            assert_eq!(serde_json::from_str::<Problem>(&text).expect("as written"), problem);
        }
    }

    #[test]
    fn a_refusal_says_what_to_do_and_what_may_have_been_meant() {
        let problem = Problem::from(Refusal::Unknown { name: "niki-pi".to_owned(), nearest: vec!["nikki-pi".to_owned()] });
        assert_eq!((problem.code, problem.code.status()), (Code::UnknownPeer, 404));
        assert_eq!(problem.detail, "nobody called niki-pi is known");
        assert_eq!(problem.candidates, ["nikki-pi"]);
        assert!(problem.hint.is_some_and(|hint| hint.contains("later")));
    }
}
