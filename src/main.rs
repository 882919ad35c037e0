//! The `paddock` program.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

use std::process::ExitCode;

use paddock::fleet::guard;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [subcommand, flag, parent, end, command @ ..] = &arguments[..] else {
        return ExitCode::from(2);
    };
    let Ok(parent) = parent.parse() else {
        return ExitCode::from(2);
    };
    if subcommand != guard::SUBCOMMAND || flag != "--parent" || end != "--" {
        return ExitCode::from(2);
    }
    #[expect(clippy::print_stderr, reason = "the last words of a child that did not start")]
    {
        eprintln!("error: {}", guard::exec(parent, command));
    }
    ExitCode::FAILURE
}
