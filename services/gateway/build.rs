//! Rebuilds the gateway when the page that it embeds was rebuilt. It never builds the page itself.

use std::path::Path;

fn main() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web/app/dist");
    // A missing directory would count as changed in every build. If it cannot be created, that is the only effect.
    let _ = std::fs::create_dir_all(&page);
    println!("cargo:rerun-if-changed={}", page.display());
}
