//! The program: reads its arguments, then is the server or asks one.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
