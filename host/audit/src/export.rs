//! Export: one JSON object a line, the records as they were hashed and the head at the end.

use std::io::Write;

use sgen_model::SiteId;

use crate::error::AuditError;
use crate::log::AuditLog;

impl AuditLog {
    /// Verifies the site's log and writes it: every record on a line of its own, byte for byte as it was hashed, and a
    /// last line `{"head":{"site":…,"records":…,"root_hash":…}}`. Answers the number of records.
    ///
    /// # Errors
    /// [`AuditError::Altered`] before anything is written; [`AuditError::Export`] when the sink fails.
    pub fn export(&self, site: &SiteId, sink: &mut dyn Write) -> Result<u64, AuditError> {
        let verification = self.verify(site)?;
        let failed = |e: std::io::Error| AuditError::Export(e.to_string());
        self.each(site, verification.records, |_, bytes| {
            sink.write_all(bytes).and_then(|()| sink.write_all(b"\n")).map_err(failed)
        })?;
        writeln!(
            sink,
            r#"{{"head":{{"site":"{site}","records":{},"root_hash":"{}"}}}}"#,
            verification.records, verification.root_hash
        )
        .and_then(|()| sink.flush())
        .map_err(failed)?;
        self.size(site)
    }
}
