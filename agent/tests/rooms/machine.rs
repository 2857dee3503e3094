//! What of the machine a room reads past the traits of `kernel`: procfs and sysfs, processes, sockets of its own.

use super::source::{Source, literals};

/// Paths of others' crates that lead to the machine.
const PATHS: &[&[&str]] = &[
    &["std", "process"],
    &["tokio", "process"],
    &["nix", "sched"],
    &["std", "net", "UdpSocket"],
    &["std", "net", "TcpStream"],
    &["std", "net", "TcpListener"],
    &["std", "os", "unix", "net"],
];

/// Parts of a literal that names a file of the machine.
const FILES: &[&str] = &["/proc", "/sys/", "/etc/"];

/// What a file of these sources reads of the machine, with its lines.
pub(crate) fn reads(source: &Source, text: &str) -> Vec<(usize, String)> {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    let named = |literal: &str| FILES.iter().any(|file| literal.contains(file));
    let files = literals(text).into_iter().filter(|(_, literal)| named(literal));
    let leads = |path: &[String]| {
        PATHS.iter().any(|wanted| {
            // `use std::process;` and `std::process::id()`, and `use std::net::*`.
            path.len() >= wanted.len() && path.iter().zip(*wanted).all(|(one, other)| one == other)
                || path.last().is_some_and(|last| last == "*") && wanted.starts_with(&path_before_star(path))
        })
    };
    let paths = source.foreign.iter().filter(|(_, path)| leads(path));
    files
        .map(|(line, literal)| (line, format!("\"{literal}\"")))
        .chain(paths.map(|(line, path)| (*line, path.join("::"))))
        .collect()
}

fn path_before_star(path: &[String]) -> Vec<&str> {
    path[..path.len() - 1].iter().map(String::as_str).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn files_of_the_machine_its_processes_and_sockets_are_found() {
        let text = "//! /proc\nuse std::{fs, net::{IpAddr, UdpSocket as Socket}, process::Command};\n\
            fn f() { fs::read(\"/proc/self/stat\"); fs::read(format!(\"/sys/class/net/{x}\")); }\n\
            fn g() { std::process::id(); std::net::TcpStream::connect(x); tokio::net::UdpSocket::bind(x) }\n\
            use std::net::*;\n#[cfg(test)]\nmod tests {\n    use std::process::Command;\n const A: &str = \"/proc\";\n}\n";
        let source = Source::read(Path::new("service/x.rs"), text).unwrap();
        let found: Vec<(usize, String)> = reads(&source, text);
        let expected = [
            (3, "\"/proc/self/stat\""),
            (3, "\"/sys/class/net/{x}\""),
            (2, "std::net::UdpSocket"),
            (2, "std::process::Command"),
            (4, "std::process::id"),
            (4, "std::net::TcpStream::connect"),
            (5, "std::net::*"),
        ];
        assert_eq!(found, expected.map(|(line, what)| (line, what.to_owned())));
    }
}
