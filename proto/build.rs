//! Compiles `ov/v1/*.proto` with protox, so that no `protoc` is needed for them.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["ov/v1/types.proto", "ov/v1/api.proto"];
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["."])?;
    tonic_prost_build::configure()
        .btree_map(".")
        .type_attribute(".", "#[derive(serde::Serialize)]")
        .compile_fds(descriptors)?;
    Ok(())
}
