//! Reads configurations, and rings as a server reads them.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize as _;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::Failure;
use super::args::{DEFAULT_FILE, RingArgs};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::error::Error;
use crate::key::{FileKeys, KeyRing, KeySource, POLL_EVERY, Rotation};

/// A configuration, and which part of which file it is.
pub(super) struct Settings {
    pub(super) config: Config,
    pub(super) place: String,
}

/// Reads a configuration: the table `section`, or else `session` if there is one, or the whole file.
pub(super) fn read(path: &Path, section: Option<&str>) -> Result<Settings, Failure> {
    let name = path.display();
    let text = text_of(path).map_err(|error| format!("{name}: {error}"))?;
    let format = Format::of(path);
    let has_default = || format.top_level_has(&text, DEFAULT_SECTION);
    let (section, place) = match section {
        Some(section) => (section, format!("{name}, table {section}")),
        None if has_default().map_err(|fault| format!("{name}: {fault}"))? => {
            (DEFAULT_SECTION, format!("{name}, table {DEFAULT_SECTION}"))
        }
        None => ("", format!("{name}, the whole file (it has no table {DEFAULT_SECTION})")),
    };
    let steps: Vec<&str> = section.split('.').filter(|step| !step.is_empty()).collect();
    let config = format.read(&text, At { steps: &steps, name: section });
    Ok(Settings { config: config.map_err(|fault| format!("{place}: {fault}"))?, place })
}

/// The ring that a command is about, and how it rotates.
pub(super) struct Ring {
    pub(super) source: Box<dyn KeySource>,
    /// None where it is not kept in a file.
    pub(super) file: Option<PathBuf>,
    pub(super) rotation: Rotation,
    /// What to call `keys rotate` with, where that can rotate it.
    pub(super) arguments: Option<String>,
    /// How often servers read it.
    pub(super) poll_every: Duration,
}

impl Ring {
    pub(super) fn find(args: &RingArgs) -> Result<Self, Failure> {
        let Some(config) = &args.config else {
            let file = args.file.clone().unwrap_or_else(|| DEFAULT_FILE.into());
            return Ok(Self::in_file(file, Rotation::default()));
        };
        let (path, section) = (config, args.section.as_deref());
        let Settings { config, place } = read(path, section)?;
        let of_config = Self::of(&config, path, section).map_err(|error| error.at(&place))?;
        Ok(match &args.file {
            None => of_config,
            Some(file) => {
                let Self { rotation, poll_every, .. } = of_config;
                Self { poll_every, ..Self::in_file(file.clone(), rotation) }
            }
        })
    }

    /// The ring that a configuration names.
    pub(super) fn of(config: &Config, path: &Path, section: Option<&str>) -> Result<Self, Error> {
        let section = section.map(|section| format!(" --section {section}")).unwrap_or_default();
        let arguments = config.key_file().map(|_| format!("--config {}{section}", path.display()));
        Ok(Self {
            source: config.key_source()?,
            file: config.key_file().map(Path::to_owned),
            rotation: config.rotation()?,
            arguments,
            poll_every: config.poll_every(),
        })
    }

    fn in_file(file: PathBuf, rotation: Rotation) -> Self {
        let arguments = Some(file.display().to_string());
        let source = Box::new(FileKeys::new(&file));
        Self { source, file: Some(file), rotation, arguments, poll_every: POLL_EVERY }
    }
}

/// A ring as a server would get it.
pub(super) struct Loaded {
    pub(super) ring: KeyRing,
    /// Where it comes from.
    pub(super) name: String,
    /// What could be safer about that.
    pub(super) warning: Option<String>,
}

/// Reads a ring.
pub(super) fn load_any(source: &dyn KeySource) -> Result<Loaded, Failure> {
    let text = source.load()?;
    let name = source.name();
    let ring = text.parse::<KeyRing>().map_err(|error| error.at(&name))?;
    Ok(Loaded { ring, name, warning: source.warning() })
}

/// Reads a ring, and refuses one under which a server would not start.
pub(super) fn load(source: &dyn KeySource, now: Timestamp) -> Result<Loaded, Failure> {
    let loaded = load_any(source)?;
    loaded.ring.seal_key(now).map_err(|error| error.at(&loaded.name))?;
    Ok(loaded)
}

const DEFAULT_SECTION: &str = "session";
/// Far above any configuration: what is larger is another kind of file.
const MAX_TEXT: u64 = 1024 * 1024;

fn text_of(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    File::open(path)?.take(MAX_TEXT.saturating_add(1)).read_to_string(&mut text)?;
    match u64::try_from(text.len()) {
        Ok(0..=MAX_TEXT) => Ok(text),
        _ => Err("over 1 MiB: this is no configuration".into()),
    }
}

#[derive(Clone, Copy)]
enum Format {
    Json,
    Toml,
}

impl Format {
    fn of(path: &Path) -> Self {
        let is_json = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("json"));
        if is_json { Self::Json } else { Self::Toml }
    }

    fn top_level_has(self, text: &str, name: &str) -> Result<bool, String> {
        match self {
            Self::Json => serde_json::from_str::<serde_json::Map<_, _>>(text)
                .map(|map| map.contains_key(name))
                .map_err(|error| without_keys(&error.to_string())),
            Self::Toml => toml::from_str::<toml::Table>(text)
                .map(|table| table.get(name).is_some_and(toml::Value::is_table))
                .map_err(|error| toml_fault(text, &error)),
        }
    }

    fn read(self, text: &str, at: At<'_>) -> Result<Config, String> {
        match self {
            Self::Json => {
                let mut reader = serde_json::Deserializer::from_str(text);
                at.deserialize(&mut reader)
                    .and_then(|config| reader.end().map(|()| config))
                    .map_err(|error| without_keys(&error.to_string()))
            }
            Self::Toml => toml::Deserializer::parse(text)
                .and_then(|reader| at.deserialize(reader))
                .map_err(|error| toml_fault(text, &error)),
        }
    }
}

/// The configuration below these steps into a file.
#[derive(Clone, Copy)]
struct At<'a> {
    steps: &'a [&'a str],
    name: &'a str,
}

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Config;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Config, D::Error> {
        if self.steps.is_empty() {
            return Config::deserialize(deserializer);
        }
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = Config;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a table {}", self.name)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Config, A::Error> {
        let (step, steps) = self.steps.split_first().unwrap_or((&"", &[]));
        let mut found = None;
        while let Some(name) = map.next_key::<String>()? {
            if name == *step {
                found = Some(map.next_value_seed(At { steps, ..self })?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        found.ok_or_else(|| serde::de::Error::custom(format_args!("it has no table {}", self.name)))
    }
}

/// The message with its line, and without the text of the line: that may hold a key.
fn toml_fault(text: &str, error: &toml::de::Error) -> String {
    let message = without_keys(error.message());
    match error.span().and_then(|span| text.get(..span.start)) {
        Some(before) => {
            let line = before.matches('\n').count().saturating_add(1);
            format!("line {line}: {message}")
        }
        None => message,
    }
}

/// A message that may repeat a value, with any key in it cut off.
pub(super) fn without_keys(message: &str) -> String {
    let mut parts = message.split(KEY_PREFIX);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(KEY_PREFIX);
        out.push('…');
        out.push_str(
            part.trim_start_matches(|c: char| matches!(c, '_' | '-' | '…') || c.is_alphanumeric()),
        );
    }
    // It may span lines, and what is to be shown is one.
    out.trim_end().replace('\n', " ")
}

pub(super) const KEY_PREFIX: &str = "sealsess_k1_";
