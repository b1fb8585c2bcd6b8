//! `foundry-runtime internal runtime|tied|exec …`: the runtime as a program of its own, with the same
//! arguments as `foundry internal …`.

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let code = match args.as_slice() {
        [internal, name, rest @ ..] if internal == "internal" => {
            foundry_runtime::run_internal(name, rest).unwrap_or(64)
        }
        _ => 64,
    };
    std::process::exit(code);
}
