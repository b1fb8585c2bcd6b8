//! Prints as JSON how an agent is launched:
//! `cargo run -p foundry-agents --example launch -- CACHE AGENT KIND BASE_URL TOKEN MODEL`.

use std::collections::BTreeMap;

use foundry_agents::{Catalogue, ModelAccess, ModelKind, Places, Profile, launch};
use foundry_core::Env;
use foundry_tool_cache::{NpmSettings, ToolCache};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [cache, agent, kind, base_url, token, model] = args.as_slice() else {
        return Err("CACHE AGENT KIND BASE_URL TOKEN MODEL".into());
    };
    let cache = ToolCache::new(cache, NpmSettings::default(), Env::system());
    let catalogue = Catalogue::new(BTreeMap::new())?;
    let entry = catalogue.get(agent)?;
    let kind = ModelKind::ALL.into_iter().find(|k| k.name() == kind).ok_or("no such kind")?;
    let access = ModelAccess::new(kind, base_url, token).with_model(model);
    let launch = launch(entry, Some(&access), &Profile::default())?;
    let mut places = Places { node: cache.ensure_node(|_| {}).await?, ..Places::default() };
    if let Some(packages) = entry.packages() {
        places.installed = cache.ensure(packages, |_| {}).await?.dir;
    }
    let files = launch.files.iter().map(|f| (f.path.clone(), String::from_utf8_lossy(&f.bytes).into_owned()));
    let text = serde_json::json!({
        "argv": entry.command(&places).into_iter().chain(launch.args.clone()).collect::<Vec<_>>(),
        "env": launch.env,
        "files": files.collect::<BTreeMap<_, _>>(),
        "mode": launch.settings.first().map(|s| s.value.clone()),
    });
    println!("{text}");
    Ok(())
}
