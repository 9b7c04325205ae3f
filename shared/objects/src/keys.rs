//! Every key of the bucket, in one place. All stand under the deployment's prefix.

use crate::ObjectsError;
use object_store::path::Path;
use photofinish_model::{AttemptRef, ItemIndex, JobId, Tenant};

/// An item id in an output's name is cut to this many characters.
const ITEM_CHARS_MAX: usize = 64;
/// Digits of an output's hash in its name.
const HASH_CHARS: usize = 8;

/// The name of a worker's report among what it pushed.
pub(crate) const REPORT: &str = "report.json";

/// Makes keys under one prefix.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    prefix: Path,
}

/// What the name of an output says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutputName {
    pub(crate) index: ItemIndex,
    pub(crate) run: u32,
}

impl Keys {
    pub(crate) fn new(prefix: &str) -> Self {
        Self {
            prefix: Path::from(prefix.trim_matches('/')),
        }
    }

    fn under(&self, parts: &[&str]) -> Path {
        parts
            .iter()
            .fold(self.prefix.clone(), |path, part| path.join(*part))
    }

    /// `{tenant}/{job}`: outputs and the manifest lie here, our documents below `_job`.
    pub(crate) fn job(&self, tenant: &Tenant, job: &JobId) -> Path {
        self.under(&[tenant.as_str(), job.as_str()])
    }

    /// `{tenant}/{job}/{index:04}-{item}.r{run}.{first 8 of sha256}.mp4`
    pub(crate) fn output(
        &self,
        (tenant, job, run): (&Tenant, &JobId, u32),
        index: ItemIndex,
        item: &str,
        sha256: &str,
    ) -> Path {
        let hash: String = sha256.chars().take(HASH_CHARS).collect();
        let name = format!(
            "{index:04}-{}.r{run}.{}.mp4",
            safe_item(item),
            safe_item(&hash)
        );
        self.job(tenant, job).join(name)
    }

    /// `{tenant}/{job}/manifest.json`
    pub(crate) fn manifest(&self, tenant: &Tenant, job: &JobId) -> Path {
        self.job(tenant, job).join("manifest.json")
    }

    /// `{tenant}/{job}/_job`
    pub(crate) fn documents(&self, tenant: &Tenant, job: &JobId) -> Path {
        self.job(tenant, job).join("_job")
    }

    /// `{tenant}/{job}/_job/run-{n}.json`
    pub(crate) fn run(&self, tenant: &Tenant, job: &JobId, run: u32) -> Path {
        self.documents(tenant, job).join(format!("run-{run}.json"))
    }

    /// `{tenant}/{job}/_job/end-{n}.json`
    pub(crate) fn end(&self, tenant: &Tenant, job: &JobId, run: u32) -> Path {
        self.documents(tenant, job).join(format!("end-{run}.json"))
    }

    /// `{tenant}/{job}/_job/outputs-deleted.json`
    pub(crate) fn outputs_deleted(&self, tenant: &Tenant, job: &JobId) -> Path {
        self.documents(tenant, job).join("outputs-deleted.json")
    }

    /// `{tenant}/{job}/_job/part-{n}-{part}.json`
    pub(crate) fn part(&self, tenant: &Tenant, job: &JobId, run: u32, part: u16) -> Path {
        self.documents(tenant, job)
            .join(format!("part-{run}-{part}.json"))
    }

    /// `{tenant}/{job}/_job/request-{sha256}.json`
    pub(crate) fn request(&self, tenant: &Tenant, job: &JobId, sha256: &str) -> Path {
        self.documents(tenant, job)
            .join(format!("request-{}.json", safe_item(sha256)))
    }

    /// `{prefix}/{folder}/` as a lifecycle rule has to cover it; the whole prefix for no folder.
    pub(crate) fn covered(&self, folder: &str) -> String {
        let parts = [self.prefix.as_ref(), folder];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        match parts.join("/") {
            all if all.is_empty() => all,
            some => format!("{some}/"),
        }
    }

    /// `_rescue/{tenant}/{job}/{run}`
    pub(crate) fn rescue_run(&self, tenant: &Tenant, job: &JobId, run: u32) -> Path {
        self.under(&["_rescue", tenant.as_str(), job.as_str(), &run.to_string()])
    }

    /// `_rescue/{tenant}/{job}/{run}/{part}-{attempt}`
    pub(crate) fn rescue(&self, attempt: &AttemptRef) -> Path {
        self.rescue_run(&attempt.tenant, &attempt.job, attempt.run)
            .join(format!("{}-{}", attempt.part, attempt.attempt))
    }

    /// `_rescue/…/{index:04}.mp4`
    pub(crate) fn rescued(&self, attempt: &AttemptRef, index: ItemIndex) -> Path {
        self.rescue(attempt).join(format!("{index:04}.mp4"))
    }

    /// `_rescue/…/report.json`
    pub(crate) fn report(&self, attempt: &AttemptRef) -> Path {
        self.rescue(attempt).join(REPORT)
    }

    /// `_uploads/{tenant}/{name}`
    pub(crate) fn upload(&self, tenant: &Tenant, name: &str) -> Result<Path, ObjectsError> {
        Ok(self.under(&["_uploads", tenant.as_str(), checked(name)?]))
    }

    /// `_system/open`
    pub(crate) fn open_markers(&self) -> Path {
        self.under(&["_system", "open"])
    }

    /// `_system/open/{tenant}/{job}.{n}`
    pub(crate) fn open_marker(&self, tenant: &Tenant, job: &JobId, run: u32) -> Path {
        self.open_markers()
            .join(tenant.as_str())
            .join(format!("{job}.{run}"))
    }

    /// `_system/check`: the object that put-if-absent is tried on.
    pub(crate) fn check(&self) -> Path {
        self.under(&["_system", "check"])
    }

    /// `{tenant}`: all jobs of a tenant.
    pub(crate) fn tenant(&self, tenant: &Tenant) -> Path {
        self.under(&[tenant.as_str()])
    }

    /// `_rescue/{tenant}/{job}`
    pub(crate) fn rescue_job(&self, tenant: &Tenant, job: &JobId) -> Path {
        self.under(&["_rescue", tenant.as_str(), job.as_str()])
    }

    /// `_system/audit`
    pub(crate) fn audit(&self) -> Path {
        self.under(&["_system", "audit"])
    }

    /// `_system/usage/{tenant}/{day}.json`
    pub(crate) fn usage(&self, tenant: &Tenant, day: &str) -> Path {
        let name = format!("{}.json", safe_item(day));
        self.under(&["_system", "usage", tenant.as_str(), &name])
    }

    /// `_system/{kind}`, or `_system/{kind}/{id}`; an id may have several parts: `acme/whe_1`.
    pub(crate) fn system(&self, kind: &str, id: &str) -> Result<Path, ObjectsError> {
        let mut path = self.under(&["_system", checked(kind)?]);
        for part in id.split('/').filter(|_| !id.is_empty()) {
            path = path.join(checked(part)?);
        }
        Ok(path)
    }

    /// `_system/{kind}/{id}/{version:010}.json`
    pub(crate) fn system_version(
        &self,
        kind: &str,
        id: &str,
        version: u64,
    ) -> Result<Path, ObjectsError> {
        if id.is_empty() {
            return Err(ObjectsError::Name(id.to_owned()));
        }
        Ok(self.system(kind, id)?.join(format!("{version:010}.json")))
    }
}

/// The item of a client as part of a name: every character outside `[A-Za-z0-9._-]` becomes `_`.
fn safe_item(item: &str) -> String {
    item.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') {
                c
            } else {
                '_'
            }
        })
        .take(ITEM_CHARS_MAX)
        .collect()
}

fn checked(part: &str) -> Result<&str, ObjectsError> {
    let good = !part.is_empty()
        && part != "."
        && part != ".."
        && part
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if good {
        Ok(part)
    } else {
        Err(ObjectsError::Name(part.to_owned()))
    }
}

/// Reads the name of an output; nothing for any other object.
pub(crate) fn parse_output_name(name: &str) -> Option<OutputName> {
    let (rest, _hash) = name.strip_suffix(".mp4")?.rsplit_once('.')?;
    let (rest, run) = rest.rsplit_once(".r")?;
    let (index, _item) = rest.split_once('-')?;
    Some(OutputName {
        index: index.parse().ok()?,
        run: run.parse().ok()?,
    })
}

/// Reads `…/{part}-{attempt}/{name}` of a rescued file.
pub(crate) fn parse_rescued(path: &Path) -> Option<(u16, u16, String)> {
    let parts: Vec<_> = path.parts().collect();
    let [.., attempt, name] = parts.as_slice() else {
        return None;
    };
    let (part, attempt) = attempt.as_ref().split_once('-')?;
    Some((
        part.parse().ok()?,
        attempt.parse().ok()?,
        name.as_ref().to_owned(),
    ))
}

/// Reads `{job}.{n}` under a tenant.
pub(crate) fn parse_open_marker(path: &Path) -> Option<(Tenant, JobId, u32)> {
    let parts: Vec<_> = path.parts().collect();
    let [.., tenant, name] = parts.as_slice() else {
        return None;
    };
    let (job, run) = name.as_ref().rsplit_once('.')?;
    Some((
        tenant.as_ref().parse().ok()?,
        job.parse().ok()?,
        run.parse().ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_the_contract() {
        let keys = Keys::new("media/");
        let (tenant, job): (Tenant, JobId) = ("acme".parse().unwrap(), JobId::from_random(1));
        let key = keys.output((&tenant, &job, 2), 7, "my image/ö.jpg", &"ab".repeat(32));
        assert_eq!(
            key.as_ref(),
            format!("media/acme/{job}/0007-my_image__.jpg.r2.abababab.mp4")
        );
        let name = key.filename().unwrap();
        assert_eq!(
            parse_output_name(name),
            Some(OutputName { index: 7, run: 2 })
        );
        let bare = Keys::new("");
        assert_eq!(
            bare.run(&tenant, &job, 1).as_ref(),
            format!("acme/{job}/_job/run-1.json")
        );
        let marker = keys.open_marker(&tenant, &job, 3);
        assert_eq!(parse_open_marker(&marker), Some((tenant, job, 3)));
    }

    #[test]
    fn no_item_id_leaves_its_place() {
        let keys = Keys::new("p");
        let (tenant, job): (Tenant, JobId) = ("acme".parse().unwrap(), JobId::from_random(1));
        for item in [
            "..",
            "../../etc/passwd",
            "a.r9.00000000",
            "-",
            &"x".repeat(500),
            "\0\n%2f",
        ] {
            let key = keys.output((&tenant, &job, 1), 3, item, "0123456789");
            assert_eq!(key.parts().count(), 4, "{key}");
            let name = parse_output_name(key.filename().unwrap());
            assert_eq!(name, Some(OutputName { index: 3, run: 1 }), "{key}");
        }
        assert!(keys.system_version("tenant", "../x", 1).is_err());
        assert!(keys.system_version("tenant", "", 1).is_err());
        assert!(
            keys.system_version("webhook_endpoint", "acme/whe_1", 1)
                .is_ok()
        );
    }
}
