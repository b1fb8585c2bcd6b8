//! The service's section of the configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use foundry_agents::AgentConfig;
use foundry_http_client::NetworkSettings;
use foundry_sandbox::NetworkSetting;
use foundry_sandbox_local::{IsolationMode, Limits};
use foundry_secrets::KeySource;
use foundry_server::config::duration;
use serde::{Deserialize, Serialize};

/// Section `provisioner` of the configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Database, `sqlite:<path>` or `postgres://…`; empty = `provisioner.db` in the service's directory.
    pub store_url: String,
    /// The provider of sandboxes that name none.
    pub default_provider: String,
    /// The agent of sandboxes that name none.
    pub default_agent: String,
    /// The `foundry` binary that sandboxes launch; default: this process's own.
    pub foundry_program: Option<PathBuf>,
    /// The npm that installs agents.
    pub npm: PathBuf,
    /// Where tools are installed, shared by all sandboxes; default: `foundry/tools` in the user's cache.
    pub tools_cache: Option<PathBuf>,
    /// The local provider.
    pub local: LocalSection,
    /// The operator's own agents by name, and other versions of the built-in ones.
    pub agents: BTreeMap<String, AgentConfig>,
    /// Where the keys that encrypt stored secrets come from: `file:PATH`, `env:VARIABLE` or `command:PROGRAM
    /// ARGUMENT…`. The first one encrypts, each decrypts; empty = `secrets.key` in the service's directory, made at
    /// the first start.
    pub secret_keys: Vec<KeySource>,
    /// Files of messages and agents.
    pub attachments: AttachmentSection,
    /// How much of what agents say and do is stored.
    pub output: OutputSection,
    /// Largest bundle of work that is taken from a sandbox, in bytes; the largest new files are left out of one that would
    /// be larger. `repo.max_bundle_bytes` applies to it too.
    pub max_bundle_bytes: u64,
    /// How model providers are reached, and the hosts that sandboxes may reach.
    pub network: NetworkSettings,
    /// Hosts with ports, as `127.0.0.1:3845` or `mcp.corp:443`, at which MCP servers of profiles may be reached
    /// besides what the network policy of a sandbox allows; this machine and private addresses are permitted here.
    pub mcp_hosts: Vec<String>,
    /// A model call without a byte from the provider is ended after this time.
    #[serde(with = "duration")]
    pub model_silence: Duration,
    /// Time between two rounds of probes of living runtimes.
    #[serde(with = "duration")]
    pub probe_interval: Duration,
    /// Time between two sweeps for sandboxes that are not in the ledger.
    #[serde(with = "duration")]
    pub sweep_interval: Duration,
    /// Minimum age of such a sandbox before it is destroyed.
    #[serde(with = "duration")]
    pub sweep_grace: Duration,
    /// How long ended flows are kept.
    #[serde(with = "duration")]
    pub flow_retention: Duration,
}

/// Section `provisioner.attachments` of the configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AttachmentSection {
    /// Where the bytes are stored, `file:///PATH`; empty = `attachments` in the service's directory.
    pub store_url: String,
    /// Most bytes that the files of an organization may take.
    pub organization_bytes: u64,
    /// A file that no message uses is removed after this time.
    #[serde(with = "duration")]
    pub unused_retention: Duration,
}

impl Default for AttachmentSection {
    fn default() -> Self {
        Self {
            store_url: String::new(),
            organization_bytes: 4 << 30,
            unused_retention: Duration::from_secs(24 * 3600),
        }
    }
}

/// Section `provisioner.output` of the configuration: limits in bytes of encoded events, 0 = none. Beyond a limit turns
/// continue, but what agents say and do is not stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OutputSection {
    /// What is stored for the sessions of a task.
    pub task_bytes: u64,
    /// What is stored for all tasks of an organization that have not ended.
    pub organization_bytes: u64,
}

impl Default for OutputSection {
    fn default() -> Self {
        Self { task_bytes: 256 << 20, organization_bytes: 4 << 30 }
    }
}

/// Section `provisioner.local` of the configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LocalSection {
    /// Where sandboxes live; default: `sandboxes` in the data directory.
    pub root: Option<PathBuf>,
    /// What to do about isolation: auto, require or off.
    pub isolation: IsolationMode,
    /// Network access of new sandboxes: `public` (any public host, never this machine or private addresses), `none`,
    /// `host` (the network of this machine), or a list of hosts as `example.org`, `*.example.org`, `10.1.2.3:443`,
    /// with `public` among them if wanted. Default: `public` where sandboxes can have networks of their own, else
    /// `host`.
    pub network: Option<NetworkSetting>,
    /// The bubblewrap to use.
    pub bwrap: PathBuf,
    /// New sandboxes are refused while less disk space than this is free, in bytes.
    pub min_free_bytes: u64,
    /// Further host directories that sandboxes may read.
    pub extra_read_only: Vec<PathBuf>,
    /// Resource limits of each sandbox.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            store_url: String::new(),
            default_provider: "local".to_owned(),
            default_agent: "demo".to_owned(),
            foundry_program: None,
            npm: PathBuf::from("npm"),
            tools_cache: None,
            local: LocalSection::default(),
            agents: BTreeMap::new(),
            secret_keys: Vec::new(),
            attachments: AttachmentSection::default(),
            max_bundle_bytes: foundry_git::MAX_WORK_BUNDLE,
            output: OutputSection::default(),
            network: NetworkSettings::default(),
            mcp_hosts: Vec::new(),
            model_silence: Duration::from_secs(300),
            probe_interval: Duration::from_secs(3),
            sweep_interval: Duration::from_secs(60),
            sweep_grace: Duration::from_secs(60),
            flow_retention: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

impl Default for LocalSection {
    fn default() -> Self {
        Self {
            root: None,
            isolation: IsolationMode::Auto,
            network: None,
            bwrap: PathBuf::from("bwrap"),
            min_free_bytes: 256 << 20,
            extra_read_only: Vec::new(),
            limits: Limits::default(),
        }
    }
}
