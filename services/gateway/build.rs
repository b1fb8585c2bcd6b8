//! Builds the gateway anew when the page that it embeds was built anew. It never builds the page itself.

use std::path::Path;

fn main() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web/app/dist");
    // What is not there counts as changed in every build. Where it cannot be made that is all that happens.
    let _ = std::fs::create_dir_all(&page);
    println!("cargo:rerun-if-changed={}", page.display());
}
