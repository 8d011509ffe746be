//! Service tags: built in, inline, and from the cloud's published file.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;

use super::names::Names;
use crate::Files;
use crate::model::{Endpoint, Prefix, ServiceTag};
use crate::raw::{self, Raw};
use crate::report::{At, Place, Report, nearest, quote};

/// The published file has about 4 MB.
const FILE_SIZE_MAX: usize = 16 << 20;
/// So many problems of the file are told one by one.
const FILE_PROBLEMS_MAX: usize = 10;

/// The part of the published file that is read.
#[derive(Deserialize)]
struct Published {
    values: Vec<PublishedTag>,
}

#[derive(Deserialize)]
struct PublishedTag {
    name: String,
    properties: PublishedProperties,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PublishedProperties {
    address_prefixes: Vec<String>,
}

/// What stands for a tag that is not inline.
enum Source {
    /// No file is named: there is no such tag.
    None,
    /// The file is named but not read, or was bad: any tag may be in it.
    Unknown,
    /// The file's tags, each with its own spelling, by name in lower case.
    Read(HashMap<String, ServiceTag>),
}

/// All tags that rules may name, and those that they do.
pub(super) struct Tags<'r> {
    inline: Vec<&'r str>,
    /// A tag that is in none of these exists nowhere.
    complete: bool,
    published: Source,
    used: Vec<ServiceTag>,
    /// By name in lower case.
    index: HashMap<String, usize>,
}

impl<'r> Tags<'r> {
    /// The inline tags, and the file's when it is to be read.
    pub(super) fn collect(raw: &'r Raw, files: Option<&dyn Files>, report: &mut Report<'_>) -> Self {
        let mut tags = Self {
            inline: Vec::new(),
            complete: !(raw.service_tags_given && raw.service_tags.is_none()),
            published: Source::None,
            used: Vec::new(),
            index: HashMap::new(),
        };
        let Some(section) = &raw.service_tags else { return tags };
        tags.complete &= section.complete;
        tags.collect_inline(section, report);
        if let Some(path) = &section.file {
            tags.published = match files {
                None => Source::Unknown,
                Some(files) => read(&At { value: path.value.as_path(), at: path.at }, files, report),
            };
            tags.check_twice(section, report);
        }
        tags
    }

    fn collect_inline(&mut self, section: &'r raw::ServiceTags, report: &mut Report<'_>) {
        let names: Vec<_> = section.inline.iter().map(|(name, _)| Some(name.clone())).collect();
        Names::collect("service tag", &names, true, report);
        for (name, prefixes) in &section.inline {
            if built_in(&name.value).is_some() {
                report.problem(
                    name.at,
                    format!("the tag {} is built in; choose another name", quote(&name.value)),
                );
            }
            self.inline.push(&name.value);
            self.index.insert(name.value.to_ascii_lowercase(), self.used.len());
            self.used.push(ServiceTag { name: name.value.clone(), prefixes: prefixes.items.concat() });
        }
    }

    /// The same name inline and in the file.
    fn check_twice(&self, section: &raw::ServiceTags, report: &mut Report<'_>) {
        let Source::Read(published) = &self.published else { return };
        let is_published = |name: &str| published.contains_key(&name.to_ascii_lowercase());
        for (name, _) in section.inline.iter().filter(|(name, _)| is_published(&name.value)) {
            report.problem(
                name.at,
                format!("the tag {} is in the file too; choose another name", quote(&name.value)),
            );
        }
    }

    /// What a rule means by a tag's name; an unknown one is reported.
    pub(super) fn find(&mut self, name: &str, at: Place, report: &mut Report<'_>) -> Option<Endpoint> {
        if let Some(endpoint) = built_in(name) {
            return Some(endpoint);
        }
        let folded = name.to_ascii_lowercase();
        if let Some(index) = self.index.get(&folded) {
            return Some(Endpoint::ServiceTag(*index));
        }
        let known = |tag: Option<ServiceTag>| tag.or_else(|| platform_service(name));
        let tag = known(match &self.published {
            Source::Read(published) => published.get(&folded).cloned(),
            Source::Unknown => Some(ServiceTag { name: name.to_owned(), prefixes: Vec::new() }),
            Source::None => None,
        });
        let Some(tag) = tag else {
            if self.complete {
                self.report_unknown(name, at, report);
            }
            return None;
        };
        self.index.insert(folded, self.used.len());
        self.used.push(tag);
        Some(Endpoint::ServiceTag(self.used.len() - 1))
    }

    fn report_unknown(&self, name: &str, at: Place, report: &mut Report<'_>) {
        if report.is_full() {
            return report.problem(at, "");
        }
        let known = BUILT_IN.iter().map(|(name, _)| *name).chain(self.inline.iter().take(64).copied());
        let right = match nearest(name, known) {
            Some(meant) => format!("did you mean {}?", quote(meant)),
            None => "give it under `service_tags`, or use VirtualNetwork, AzureLoadBalancer or Internet"
                .to_owned(),
        };
        report.problem(at, format!("there is no service tag {}; {right}", quote(name)));
    }

    /// The inline tags, and those of the file that rules name.
    pub(super) fn finish(self) -> Vec<ServiceTag> {
        self.used
    }
}

/// The built-in tags, with their classic spellings behind.
const BUILT_IN: [(&str, Endpoint); 6] = [
    ("VirtualNetwork", Endpoint::VirtualNetwork),
    ("AzureLoadBalancer", Endpoint::AzureLoadBalancer),
    ("Internet", Endpoint::Internet),
    ("VIRTUAL_NETWORK", Endpoint::VirtualNetwork),
    ("AZURE_LOADBALANCER", Endpoint::AzureLoadBalancer),
    ("INTERNET", Endpoint::Internet),
];

/// The platform's services whose addresses are the same everywhere, for groups that name them without the published file.
pub(crate) fn platform_service(name: &str) -> Option<ServiceTag> {
    let services = [("AzurePlatformDNS", [168, 63, 129, 16]), ("AzurePlatformIMDS", [169, 254, 169, 254])];
    let (name, address) = services.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
    Some(ServiceTag { name: name.to_owned(), prefixes: vec![Prefix::host(address.into())] })
}

fn built_in(name: &str) -> Option<Endpoint> {
    BUILT_IN.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, endpoint)| endpoint.clone())
}

/// The published file's tags.
fn read(path: &At<&Path>, files: &dyn Files, report: &mut Report<'_>) -> Source {
    let shown = quote(&path.value.display().to_string());
    let text = match files.read(path.value) {
        Ok(text) => text,
        Err(error) => {
            report
                .problem(path.at, format!("the file {shown} cannot be read: {error}; name a readable file"));
            return Source::Unknown;
        }
    };
    if text.len() > FILE_SIZE_MAX {
        report.problem(
            path.at,
            format!("the file {shown} has {} bytes; at most {FILE_SIZE_MAX} are read", text.len()),
        );
        return Source::Unknown;
    }
    let read = match crate::import::decode(path.at.file, &text) {
        Ok(text) => serde_json::from_str(&text).map_err(|error| error.to_string()),
        Err((_, message)) => Err(message),
    };
    let published: Published = match read {
        Ok(published) => published,
        Err(error) => {
            let needed = "it is JSON with values[].name and values[].properties.addressPrefixes";
            report
                .problem(path.at, format!("the file {shown} is no list of service tags: {error}; {needed}"));
            return Source::Unknown;
        }
    };
    let mut mistakes = Mistakes { path: *path, shown, count: 0 };
    let tags = mistakes.tags(published, report);
    mistakes.finish(report);
    if mistakes.count == 0 { Source::Read(tags) } else { Source::Unknown }
}

/// Reports what is wrong inside the published file, up to a limit.
struct Mistakes<'p> {
    path: At<&'p Path>,
    shown: String,
    count: usize,
}

impl Mistakes<'_> {
    fn tags(&mut self, published: Published, report: &mut Report<'_>) -> HashMap<String, ServiceTag> {
        let mut tags = HashMap::new();
        for (i, tag) in published.values.into_iter().enumerate() {
            let folded = tag.name.to_ascii_lowercase();
            if tags.contains_key(&folded) {
                self.note(
                    &format!("values[{i}].name"),
                    &format!("{} is there twice; keep one", quote(&tag.name)),
                    report,
                );
            }
            let mut prefixes = Vec::new();
            for (j, text) in tag.properties.address_prefixes.iter().enumerate() {
                match Prefix::parse(text) {
                    Ok(prefix) => prefixes.push(prefix),
                    Err(error) => {
                        let at = format!("values[{i}].properties.addressPrefixes[{j}]");
                        self.note(&at, &format!("{} {error}", quote(text)), report);
                    }
                }
            }
            tags.insert(folded, ServiceTag { name: tag.name, prefixes });
        }
        tags
    }

    fn note(&mut self, at: &str, message: &str, report: &mut Report<'_>) {
        self.count += 1;
        if self.count <= FILE_PROBLEMS_MAX {
            report.problem(self.path.at, format!("in the file {}, {at}: {message}", self.shown));
        }
    }

    fn finish(&self, report: &mut Report<'_>) {
        if self.count > FILE_PROBLEMS_MAX {
            let more = self.count - FILE_PROBLEMS_MAX;
            report.problem(
                self.path.at,
                format!("in the file {}: {more} more problems; mend these first", self.shown),
            );
        }
    }
}
