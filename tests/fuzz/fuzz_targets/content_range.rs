//! Ranges of uploads and downloads. The first eight bytes are the size of the content, the rest is the
//! header.
#![no_main]

use kontor_fuzz::oci::content_range::{
    RequestedRange, UploadRange, content_range, requested_range, unsatisfied_content_range,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((size, header)) = data.split_first_chunk::<8>() else {
        return;
    };
    let Ok(header) = str::from_utf8(header) else {
        return;
    };
    let size = u64::from_le_bytes(*size);
    // Large sizes are as likely as small ones otherwise.
    for size in [size, size % 1000, 0] {
        check_download(header, size);
    }
    if let Ok(range) = header.parse::<UploadRange>() {
        assert!(range.start <= range.end && range.len() >= 1);
        assert_eq!(range.start + (range.len() - 1), range.end);
        assert!(i64::try_from(range.start + range.len()).is_ok());
        assert_eq!(range.to_string().parse(), Ok(range));
        let written = content_range(&(range.start..range.end + 1), range.end + 1);
        assert_eq!(written.parse(), Ok(range));
    }
});

fn check_download(header: &str, size: u64) {
    match requested_range(Some(header), size) {
        RequestedRange::Whole => {}
        RequestedRange::Partial(range) => {
            assert!(range.start < range.end && range.end <= size);
            // Asking for exactly what was given gives the same.
            let exact = format!("bytes={}-{}", range.start, range.end - 1);
            assert_eq!(
                requested_range(Some(&exact), size),
                RequestedRange::Partial(range.clone())
            );
            let written = content_range(&range, size);
            assert_eq!(
                written,
                format!("bytes {}-{}/{size}", range.start, range.end - 1)
            );
        }
        RequestedRange::Unsatisfiable => {
            assert!(header.contains("bytes") || header.to_ascii_lowercase().contains("bytes"));
            assert!(
                unsatisfied_content_range(size)
                    .parse::<UploadRange>()
                    .is_err()
            );
        }
    }
}
