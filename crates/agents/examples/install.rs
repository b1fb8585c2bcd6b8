//! Installs agents of the catalogue with the real npm and prints what each would be started with:
//! `cargo run -p foundry-agents --example install -- CACHE [NAME...]`.

use std::collections::BTreeMap;

use foundry_agents::{Catalogue, Places};
use foundry_core::Env;
use foundry_tool_cache::{NpmSettings, ToolCache};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let cache = args.next().ok_or("name a directory for the cache")?;
    let names: Vec<String> = args.collect();
    let cache = ToolCache::new(cache, NpmSettings::default(), Env::system());
    let node = cache.ensure_node(|line| println!("{line}")).await?;
    let catalogue = Catalogue::new(BTreeMap::new())?;
    for entry in catalogue.iter().filter(|e| names.is_empty() || names.iter().any(|n| n == e.name())) {
        let mut places = Places { node: node.clone(), ..Places::default() };
        if let Some(packages) = entry.packages() {
            places.installed = cache.ensure(packages, |line| println!("{line}")).await?.dir;
        }
        println!("{}: {:?}", entry.name(), entry.command(&places));
    }
    Ok(())
}
