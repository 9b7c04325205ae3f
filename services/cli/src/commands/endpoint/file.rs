//! `endpoint.toml`: what the endpoint shall be.
//!
//! Guarantee: every fault is named at once, with its line and key; a key that means nothing is a fault. A value
//! `{ env = "NAME" }` comes from the shell; one of `[env]` is then a secret.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use photofinish_runpod::management::{
    EndpointKind, EndpointSpec, EnvValue, FlashBoot, GpuSpec, Scaling, Template, WorkerBounds,
};

use super::toml_reader::{Reader, Section};
use crate::endpoint_error::EndpointError;
use crate::error::CliError;

const KEYS: [&str; 15] = [
    "name",
    "template",
    "image",
    "args",
    "disk_gb",
    "ports",
    "registry",
    "execution_timeout_s",
    "flashboot",
    "data_centers",
    "network_volumes",
    "env",
    "gpu",
    "workers",
    "scaling",
];
const GPU_KEYS: [&str; 5] = [
    "pools",
    "excluded_types",
    "count",
    "min_cuda_version",
    "allowed_cuda_versions",
];
const WORKERS_KEYS: [&str; 3] = ["min", "max", "idle_timeout_s"];
const SCALING_KEYS: [&str; 3] = ["type", "queue_delay_s", "request_count"];

/// RunPod's own default, seconds.
const IDLE_TIMEOUT_S: u64 = 10;
/// RunPod's own default without a template, GB.
const DISK_GB: u64 = 20;

/// The file, checked. What a template may give is still open.
#[derive(Debug)]
pub(crate) struct EndpointFile {
    /// Id or name of the template to begin with.
    pub(crate) template: Option<String>,
    image: Option<String>,
    args: Option<String>,
    disk_gb: Option<u64>,
    ports: Option<BTreeSet<String>>,
    registry: Option<String>,
    env: BTreeMap<String, EnvValue>,
    /// Everything that no template has.
    rest: EndpointSpec,
}

impl EndpointFile {
    /// Reads the file; `shell` looks up environment variables.
    pub(crate) fn read(
        path: &Path,
        shell: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, CliError> {
        Self::parse(&text_of(path)?, shell).map_err(|faults| faulty(path, faults))
    }

    fn parse(text: &str, shell: &dyn Fn(&str) -> Option<String>) -> Result<Self, Vec<String>> {
        let document = Reader::document(text)?;
        let mut reader = Reader::new(text, shell);
        let file = read(&mut reader, &Section::root(document.get_ref()));
        let faults = reader.into_faults();
        if faults.is_empty() {
            Ok(file)
        } else {
            Err(faults)
        }
    }

    /// The endpoint that the file and its template describe; the file's own values win.
    pub(crate) fn resolve(self, template: Option<&Template>) -> EndpointSpec {
        let mut env = template.map(|one| one.env.clone()).unwrap_or_default();
        env.extend(self.env);
        let either = |ours: Option<String>, theirs: fn(&Template) -> &String| {
            ours.or_else(|| template.map(|one| theirs(one).clone()))
        };
        EndpointSpec {
            image: either(self.image, |one| &one.image).unwrap_or_default(),
            args: either(self.args, |one| &one.args).unwrap_or_default(),
            disk_gb: self
                .disk_gb
                .or_else(|| template.and_then(|one| one.disk_gb))
                .unwrap_or(DISK_GB),
            ports: self
                .ports
                .or_else(|| template.map(|one| one.ports.clone()))
                .unwrap_or_default(),
            registry: self
                .registry
                .or_else(|| template.and_then(|one| one.registry.clone())),
            env,
            ..self.rest
        }
    }
}

/// The `name` alone: what commands need that do not compare; `shell` as in [`EndpointFile::read`].
pub(crate) fn name_in(
    path: &Path,
    shell: &dyn Fn(&str) -> Option<String>,
) -> Result<String, CliError> {
    let text = text_of(path)?;
    let document = Reader::document(&text).map_err(|faults| faulty(path, faults))?;
    let mut reader = Reader::new(&text, shell);
    let name = reader.required_text(&Section::root(document.get_ref()), "name");
    let faults = reader.into_faults();
    if faults.is_empty() {
        Ok(name)
    } else {
        Err(faulty(path, faults))
    }
}

fn faulty(path: &Path, faults: Vec<String>) -> CliError {
    let path = path.to_owned();
    EndpointError::File { path, faults }.into()
}

fn text_of(path: &Path) -> Result<String, CliError> {
    std::fs::read_to_string(path).map_err(|source| CliError::Request {
        path: path.to_owned(),
        source,
    })
}

fn read(reader: &mut Reader<'_>, root: &Section<'_>) -> EndpointFile {
    reader.only(root, &KEYS);
    let template = reader.text(root, "template");
    let image = reader.text(root, "image");
    if image.is_none() && template.is_none() && !root.has("image") {
        reader.missing(root, "image");
    }
    check_image(reader, root, image.as_deref());
    let (env, ports) = (environment(reader, root), reader.list(root, "ports"));
    check_ports(reader, root, ports.as_ref(), &env);
    let scaling = scaling(reader, root);
    let name = reader.required_text(root, "name");
    let flashboot = reader.choice(
        root,
        "flashboot",
        &["OFF", "FLASHBOOT", "PRIORITY_FLASHBOOT"],
    );
    let seconds = reader.whole(root, "execution_timeout_s", 5..=604_800);
    EndpointFile {
        template,
        image,
        args: reader.text(root, "args"),
        disk_gb: reader.whole(root, "disk_gb", 1..=10_000),
        registry: reader.text(root, "registry"),
        rest: EndpointSpec {
            name,
            kind: EndpointKind::Queue,
            gpu: Some(gpu(reader, root)),
            workers: workers(reader, root, &scaling),
            scaling,
            execution_timeout_ms: seconds.map_or(300_000, |seconds| seconds * 1000),
            flashboot: flashboot.map_or(FlashBoot::Off, FlashBoot::parse),
            data_centers: reader.list(root, "data_centers").unwrap_or_default(),
            network_volumes: reader.list(root, "network_volumes").unwrap_or_default(),
            image: String::new(),
            args: String::new(),
            disk_gb: 0,
            env: BTreeMap::new(),
            ports: BTreeSet::new(),
            registry: None,
        },
        ports,
        env,
    }
}

/// A reference that RunPod could pull; upper case in it is a placeholder that was left in.
fn check_image(reader: &mut Reader<'_>, root: &Section<'_>, image: Option<&str>) {
    let Some(image) = image else { return };
    let repository = image.split('@').next().unwrap_or(image);
    let repository = match repository.rsplit_once(':') {
        Some((before, tag)) if !tag.contains('/') => before,
        _ => repository,
    };
    if image.is_empty() || image.contains(char::is_whitespace) {
        reader.fault(root, "image", "is not an image reference");
    } else if repository.contains(|c: char| c.is_ascii_uppercase()) {
        reader.fault(
            root,
            "image",
            "has upper case before its tag, which no image has: is a placeholder left in it?",
        );
    }
}

fn environment(reader: &mut Reader<'_>, root: &Section<'_>) -> BTreeMap<String, EnvValue> {
    let section = reader.section(root, "env");
    let mut env = BTreeMap::new();
    for name in section.keys() {
        let first = name.chars().next();
        let is_name = first.is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !is_name {
            reader.fault(&section, &name, "is no name of a variable");
        }
        if let Some((value, from_shell)) = reader.text_and_origin(&section, &name) {
            let value = if from_shell {
                EnvValue::secret(value)
            } else {
                EnvValue::plain(value)
            };
            env.insert(name, value);
        }
    }
    env
}

fn check_ports(
    reader: &mut Reader<'_>,
    root: &Section<'_>,
    ports: Option<&BTreeSet<String>>,
    env: &BTreeMap<String, EnvValue>,
) {
    let Some(ports) = ports else { return };
    for port in ports {
        let parts = port.split_once('/');
        let number = parts.and_then(|(number, _)| number.parse::<u16>().ok());
        let known = parts.is_some_and(|(_, kind)| matches!(kind, "http" | "tcp"));
        if number.is_none_or(|number| number == 0) || !known {
            let what = format!("{port:?} is not a port such as \"8000/http\" or \"8000/tcp\"");
            reader.fault(root, "ports", &what);
        }
    }
    let Some(own) = env.get("HTTP_PORT").filter(|value| value.is_shown()) else {
        return;
    };
    let own = own.expose();
    if !ports.contains(&format!("{own}/http")) {
        let what = format!("lacks \"{own}/http\", the port that env.HTTP_PORT names");
        reader.fault(root, "ports", &what);
    }
}

fn gpu(reader: &mut Reader<'_>, root: &Section<'_>) -> GpuSpec {
    let section = reader.section(root, "gpu");
    reader.only(&section, &GPU_KEYS);
    let pools = reader.list(&section, "pools").unwrap_or_default();
    if pools.is_empty() && !(section.has("pools") && reader.has_fault_at(&section, "pools")) {
        reader.missing(&section, "pools");
    }
    let cuda_version_min = reader.text(&section, "min_cuda_version");
    let allowed_cuda_versions = reader
        .list(&section, "allowed_cuda_versions")
        .unwrap_or_default();
    let versions = [("min_cuda_version", cuda_version_min.as_ref())]
        .into_iter()
        .chain(
            allowed_cuda_versions
                .iter()
                .map(|one| ("allowed_cuda_versions", Some(one))),
        );
    for (key, version) in versions {
        if version.is_some_and(|version| !is_cuda_version(version)) {
            reader.fault(&section, key, "is not a version such as \"12.4\"");
        }
    }
    if cuda_version_min.is_some() && !allowed_cuda_versions.is_empty() {
        let what = "excludes min_cuda_version: give one of the two";
        reader.fault(&section, "allowed_cuda_versions", what);
    }
    GpuSpec {
        pools,
        excluded_types: reader.list(&section, "excluded_types").unwrap_or_default(),
        count: reader.whole(&section, "count", 1..=10).unwrap_or(1),
        cuda_version_min,
        allowed_cuda_versions,
    }
}

fn is_cuda_version(text: &str) -> bool {
    let number = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
    text.split_once('.')
        .is_some_and(|(major, minor)| number(major) && number(minor))
}

fn workers(reader: &mut Reader<'_>, root: &Section<'_>, scaling: &Scaling) -> WorkerBounds {
    let section = reader.section(root, "workers");
    reader.only(&section, &WORKERS_KEYS);
    let min = reader.whole(&section, "min", 0..=1000).unwrap_or(0);
    let max = reader.whole(&section, "max", 0..=1000).unwrap_or(3);
    if min > max {
        let what = format!("is {min}, above workers.max, which is {max}");
        reader.fault(&section, "min", &what);
    }
    let idle = reader.whole(&section, "idle_timeout_s", 1..=3600);
    let by_count = matches!(scaling, Scaling::RequestCount(_));
    if by_count && idle.is_some() {
        let what = "is refused by RunPod together with scaling.type REQUEST_COUNT";
        reader.fault(&section, "idle_timeout_s", what);
    }
    WorkerBounds {
        min,
        max,
        idle_timeout_s: (!by_count).then(|| idle.unwrap_or(IDLE_TIMEOUT_S)),
    }
}

fn scaling(reader: &mut Reader<'_>, root: &Section<'_>) -> Scaling {
    let section = reader.section(root, "scaling");
    reader.only(&section, &SCALING_KEYS);
    let kind = reader.choice(&section, "type", &["QUEUE_DELAY", "REQUEST_COUNT"]);
    let delay = reader.seconds(&section, "queue_delay_s", 0.5);
    let count = reader.whole(&section, "request_count", 1..=100_000);
    let (other, scaling) = match kind {
        Some("REQUEST_COUNT") => ("queue_delay_s", Scaling::RequestCount(count.unwrap_or(1))),
        _ => ("request_count", Scaling::QueueDelay(delay.unwrap_or(4.0))),
    };
    if section.has(other) {
        let what = "does not belong to this scaling.type";
        reader.fault(&section, other, what);
    }
    if section.is_there() && kind.is_none() && !section.has("type") {
        reader.missing(&section, "type");
    }
    scaling
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
