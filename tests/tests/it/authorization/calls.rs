//! Calls that are built from descriptors, and their answers down to the last byte.

use std::time::Duration;

use foundry_frame::{RawBody, RawFrame};
use prost::Message as _;
use prost_reflect::{DescriptorPool, MethodDescriptor};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

/// Longest wait for an answer; a watch that is let in answers at once, too.
const PATIENCE: Duration = Duration::from_secs(20);

/// A codec that sends encoded messages unchanged and leaves the answers encoded.
#[derive(Clone, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;
    fn encoder(&mut self) -> Self {
        Self
    }
    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;
    fn encode(&mut self, item: Vec<u8>, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        use prost::bytes::BufMut as _;
        buf.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;
    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        use prost::bytes::Buf as _;
        Ok(Some(buf.copy_to_bytes(buf.remaining()).to_vec()))
    }
}

/// All that a caller learns from an answer.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    pub code: Code,
    /// What came: the message of a unary call, or the first ones of a stream.
    pub content: Vec<u8>,
    pub message: String,
    pub details: Vec<u8>,
    /// The other trailers, without the time.
    pub trailers: Vec<(String, Vec<u8>)>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {} {:?}", self.code, self.reason(), self.message)
    }
}

impl Answer {
    fn of(result: Result<Vec<u8>, Status>) -> Self {
        let (content, status) = match result {
            Ok(content) => (content, Status::new(Code::Ok, "")),
            Err(status) => (Vec::new(), status),
        };
        let headers = status.metadata().clone().into_headers();
        let mut trailers: Vec<_> = headers
            .iter()
            .filter(|(name, _)| *name != "date")
            .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
            .collect();
        trailers.sort();
        Self {
            code: status.code(),
            content,
            message: status.message().to_owned(),
            details: status.details().to_vec(),
            trailers,
        }
    }

    /// The reason in its details.
    pub fn reason(&self) -> String {
        self.info().map(|info| info.reason).unwrap_or_default()
    }

    /// The reason and its metadata.
    pub fn info(&self) -> Option<tonic_types::ErrorInfo> {
        use tonic_types::StatusExt as _;
        let status = Status::with_details(self.code, &*self.message, self.details.clone().into());
        status.get_error_details().error_info().cloned()
    }

    /// Whether this text is anywhere in what came.
    pub fn contains(&self, text: &str) -> bool {
        !text.is_empty() && self.content.windows(text.len()).any(|part| part == text.as_bytes())
    }

    /// The same answer with other ids, of the same lengths.
    pub fn renamed(&self, names: &[(String, String)]) -> Self {
        let replaced = |bytes: &[u8]| {
            names
                .iter()
                .fold(bytes.to_vec(), |bytes, (from, to)| replace(&bytes, from.as_bytes(), to.as_bytes()))
        };
        Self {
            code: self.code,
            content: replaced(&self.content),
            message: String::from_utf8_lossy(&replaced(self.message.as_bytes())).into_owned(),
            details: replaced(&self.details),
            trailers: self.trailers.iter().map(|(name, value)| (name.clone(), replaced(value))).collect(),
        }
    }
}

/// Replaces a text by one of the same length.
pub fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len(), "lengths are part of the answer");
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    while !from.is_empty() && at + from.len() <= bytes.len() {
        if bytes[at..].starts_with(from) {
            bytes[at..at + from.len()].copy_from_slice(to);
            at += from.len();
        } else {
            at += 1;
        }
    }
    bytes
}

/// A server of rpcs.
#[derive(Clone)]
pub struct Door {
    pub name: &'static str,
    channel: Channel,
}

impl Door {
    pub fn of(name: &'static str, url: String) -> Self {
        Self { name, channel: Endpoint::from_shared(url).unwrap().connect_lazy() }
    }

    /// Calls a method with an encoded request, until its first message or its end.
    pub async fn call(&self, token: Option<&str>, path: &str, body: Vec<u8>) -> Answer {
        self.call_until(token, path, body, |_| true).await
    }

    /// Calls a method with an encoded request, until a message that is the last one, or its end.
    pub async fn call_until(
        &self,
        token: Option<&str>,
        path: &str,
        body: Vec<u8>,
        is_last: impl Fn(&[u8]) -> bool,
    ) -> Answer {
        let call = async {
            let mut client = tonic::client::Grpc::new(self.channel.clone());
            client.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
            let mut request = Request::new(futures::stream::iter([body]));
            // The id of a request is in its answer.
            request.metadata_mut().insert("x-request-id", "matrix".parse().unwrap());
            if let Some(token) = token {
                let value = format!("Bearer {token}").parse().unwrap();
                request.metadata_mut().insert("authorization", value);
            }
            let path = path.parse().map_err(|_| Status::invalid_argument("path"))?;
            let mut answers = client.streaming(request, path, Raw).await?.into_inner();
            let mut content = Vec::new();
            while let Some(answer) = answers.message().await? {
                content.extend_from_slice(&answer);
                if is_last(&answer) {
                    break;
                }
            }
            Ok(content)
        };
        let answered = tokio::time::timeout(PATIENCE, call).await;
        Answer::of(answered.unwrap_or_else(|_| Err(Status::new(Code::Unknown, "no answer"))))
    }
}

/// Whether this frame of a watch is the last one of its snapshot.
pub fn ends_snapshot(frame: &[u8]) -> bool {
    RawFrame::decode(frame).is_ok_and(|frame| matches!(frame.body, Some(RawBody::SnapshotEnd(_))))
}

/// All rpcs of the descriptors.
pub fn methods() -> Vec<MethodDescriptor> {
    let pool = DescriptorPool::decode(foundry_proto::FILE_DESCRIPTOR_SET).unwrap();
    pool.services().flat_map(|s| s.methods().collect::<Vec<_>>()).collect()
}

/// The HTTP path of a method.
pub fn path_of(method: &MethodDescriptor) -> String {
    format!("/{}/{}", method.parent_service().full_name(), method.name())
}
