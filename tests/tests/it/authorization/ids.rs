//! What the fields of requests name, and requests filled with chosen entities.

use std::collections::BTreeMap;

use foundry_proto::repo::v1::JobKind;
use prost::Message as _;
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind as FieldKind, MessageDescriptor, MethodDescriptor, Value,
};

/// A kind of entity that belongs to an organization or a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    AccessToken,
    Attachment,
    Credential,
    Job,
    Message,
    ModelProvider,
    Organization,
    Permission,
    Profile,
    Repository,
    ReviewComment,
    Sandbox,
    Session,
    SignInSession,
    Stream,
    Task,
    User,
    Webhook,
}

/// One entity of each kind.
pub type Ids = BTreeMap<Kind, String>;

/// What the value of a field is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Entity(Kind),
    /// No entity of Foundry's: chosen by the caller or by an agent, and looked up only within an entity that is named beside
    /// it. The value of a plausible request.
    Chosen(&'static str),
}

/// The meaning of an id field.
///
/// # Panics
/// For a field that looks like an id and is not known here: add it.
fn meaning(field: &FieldDescriptor) -> Option<Meaning> {
    use Kind as K;
    use Meaning::{Chosen, Entity};
    let message = field.parent_message().name().to_owned();
    let known = match (message.as_str(), field.name()) {
        // Ids under other names.
        ("UpdateDraftRequest" | "ListAuditEventsRequest", "subject") => Entity(K::Session),
        ("ServeFetchRequest", "repository") => Entity(K::Repository),
        ("CreateTaskRequest" | "CreateSessionRequest", "profile") => Entity(K::Profile),
        // An id of GitHub's.
        (_, "app_id") => Chosen("1"),
        (_, "access_token_id") => Entity(K::AccessToken),
        (_, "credential_id") => Entity(K::SignInSession),
        (_, "attachment_id" | "attachment_ids") => Entity(K::Attachment),
        (_, "repository_credential_id") => Entity(K::Credential),
        (_, "job_id" | "plan_job_id") => Entity(K::Job),
        (_, "message_id") => Entity(K::Message),
        (_, "model_provider_id") => Entity(K::ModelProvider),
        (_, "organization_id") => Entity(K::Organization),
        (_, "permission_id") => Entity(K::Permission),
        (_, "profile_id") => Entity(K::Profile),
        (_, "repository_id") => Entity(K::Repository),
        (_, "comment_id") => Entity(K::ReviewComment),
        (_, "sandbox_id") => Entity(K::Sandbox),
        (_, "session_id") => Entity(K::Session),
        (_, "stream_id") => Entity(K::Stream),
        (_, "task_id") => Entity(K::Task),
        (_, "user_id") => Entity(K::User),
        (_, "repository_webhook_id") => Entity(K::Webhook),
        (_, "request_id") => Chosen(""),
        (_, "elicitation_id") => Chosen("elicitation-1"),
        (_, "option_id") => Chosen("allow_once"),
        // No entity of an organization: a random id that its program alone has.
        (_, "program_sign_in_id") => Chosen("psi_00000000000070008000000000000000"),
        // The page has its secret beside it.
        ("ProviderProof" | "GetSignInRequest", "sign_in_id") => {
            Chosen("sgn_00000000000070008000000000000000")
        }
        _ => {
            let name = field.name();
            let is_text = matches!(field.kind(), FieldKind::String | FieldKind::Bytes);
            let looks_like_one =
                name == "id" || name == "ids" || name.ends_with("_id") || name.ends_with("_ids");
            assert!(!(is_text && looks_like_one), "what does {} name? Add it here.", field.full_name());
            return None;
        }
    };
    Some(known)
}

/// The entity that a field names.
fn entity(field: &FieldDescriptor) -> Option<Kind> {
    match meaning(field)? {
        Meaning::Entity(kind) => Some(kind),
        Meaning::Chosen(_) => None,
    }
}

/// A field that names an entity: the way to it from the request.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    path: Vec<String>,
    pub kind: Kind,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.path.join("."))
    }
}

/// All fields of a method's request that name an entity, however deep.
pub fn places(method: &MethodDescriptor) -> Vec<Place> {
    let mut found = Vec::new();
    collect(&method.input(), &mut Vec::new(), &mut found);
    found
}

fn collect(message: &MessageDescriptor, path: &mut Vec<String>, found: &mut Vec<Place>) {
    for field in message.fields() {
        path.push(field.name().to_owned());
        if let Some(kind) = entity(&field) {
            found.push(Place { path: path.clone(), kind });
        }
        if let Some(inner) = own_message(&field)
            && path.len() < 8
        {
            collect(&inner, path, found);
        }
        path.pop();
    }
}

/// The message of a field, if it is one of ours.
fn own_message(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    match field.kind() {
        FieldKind::Message(inner) if inner.full_name().starts_with("foundry.") && !field.is_map() => {
            Some(inner)
        }
        _ => None,
    }
}

/// A plausible request: each field that names an entity has what `of` says, everything else is such that it is not
/// refused for its form. Of alternatives, the one that leads to `through` is chosen, or the first.
pub fn request(
    method: &MethodDescriptor,
    through: Option<&Place>,
    of: &dyn Fn(&[String], Kind) -> Option<String>,
) -> Vec<u8> {
    filled(&method.input(), &mut Vec::new(), through, of).encode_to_vec()
}

fn filled(
    descriptor: &MessageDescriptor,
    path: &mut Vec<String>,
    through: Option<&Place>,
    of: &dyn Fn(&[String], Kind) -> Option<String>,
) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    for field in descriptor.fields() {
        path.push(field.name().to_owned());
        if is_chosen(&field, path, through)
            && let Some(value) = value_of(&field, path, through, of)
        {
            let value = if field.is_list() { Value::List(vec![value]) } else { value };
            message.set_field(&field, value);
        }
        path.pop();
    }
    message
}

/// Whether a field is set, where it is one of several alternatives.
fn is_chosen(field: &FieldDescriptor, path: &[String], through: Option<&Place>) -> bool {
    let Some(alternatives) = field.containing_oneof() else { return true };
    let leads = |name: &str| {
        through.is_some_and(|place| {
            let above = &path[..path.len() - 1];
            place.path.starts_with(above) && place.path.get(above.len()).is_some_and(|next| next == name)
        })
    };
    match alternatives.fields().find(|f| leads(f.name())) {
        Some(wanted) => wanted.name() == field.name(),
        None => alternatives.fields().next().is_some_and(|first| first.name() == field.name()),
    }
}

fn value_of(
    field: &FieldDescriptor,
    path: &mut Vec<String>,
    through: Option<&Place>,
    of: &dyn Fn(&[String], Kind) -> Option<String>,
) -> Option<Value> {
    match meaning(field) {
        Some(Meaning::Entity(kind)) => return of(path, kind).map(Value::String),
        Some(Meaning::Chosen(text)) => return Some(Value::String(text.to_owned())),
        None => {}
    }
    if let Some(inner) = own_message(field) {
        let names = has_entities(&inner, 0);
        let wanted = names || matches!(field.name(), "secret" | "settings" | "subject");
        return wanted.then(|| Value::Message(filled(&inner, path, through, of)));
    }
    let message = field.parent_message().name().to_owned();
    match (field.kind(), message.as_str(), field.name()) {
        (_, "RunRepositoryActionRequest", "kind") => Some(Value::EnumNumber(JobKind::RestackSubtree.into())),
        (FieldKind::Enum(_), ..) => Some(Value::EnumNumber(1)),
        (FieldKind::String, ..) => {
            plausible(&message, field.name()).map(|text| Value::String(text.to_owned()))
        }
        (FieldKind::Bytes, "PutAttachmentRequest", "content") => Some(Value::Bytes(b"x".to_vec().into())),
        (FieldKind::Int32, "PutReviewCommentRequest", "start_line") => Some(Value::I32(1)),
        (FieldKind::Int32, "SetAutoFixRequest", "max_tries") => Some(Value::I32(1)),
        (FieldKind::Int64, "SetModelLimitRequest", "maximum") => Some(Value::I64(1)),
        (FieldKind::Int64, "MarkReadRequest", "offset") => Some(Value::I64(1)),
        (FieldKind::Int64, "RepositoryGithubApp", "installation_id") => Some(Value::I64(1)),
        _ => None,
    }
}

fn has_entities(message: &MessageDescriptor, depth: usize) -> bool {
    depth < 8
        && message.fields().any(|field| {
            entity(&field).is_some()
                || own_message(&field).is_some_and(|inner| has_entities(&inner, depth + 1))
        })
}

/// A text for a field that must have one.
fn plausible(message: &str, field: &str) -> Option<&'static str> {
    Some(match (message, field) {
        ("AgentProfileSettings", "agent") => "demo",
        ("DevelopmentProof" | "ModelProviderSettings", _) if field != "name" => return None,
        (_, "name" | "title" | "text" | "prompt" | "names" | "message") => "x",
        (_, "branch" | "to_branch" | "base_branch") => "side",
        (_, "login") => "eve",
        (_, "path") => "notes.md",
        (_, "content") => "0123456789012345678901234567890123456789",
        (_, "url") => "https://example.org/x.git",
        (_, "value") => "a-secret-that-is-long-enough",
        (_, "forge") => "github",
        (_, "method") => "/foundry.task.v1.TaskService/WatchTask",
        _ => return None,
    })
}

/// Another id of the same form that nobody has.
pub fn absent(id: &str) -> String {
    let at = id.len() - 4;
    let other: String = id[at..]
        .chars()
        .map(|c| {
            if c == '0' {
                '1'
            } else if c.is_ascii_hexdigit() {
                '0'
            } else {
                c
            }
        })
        .collect();
    format!("{}{other}", &id[..at])
}
