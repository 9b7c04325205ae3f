//! Caption texts in six scripts, for tests and for pictures to look at.

/// The script's name and a line in it. Each has a full stop where it belongs, and the scripts that
/// run from right to left also a word that does not.
pub const SAMPLES: [(&str, &str); 6] = [
    ("Latin", "Ação! Où est l’été, Jürgen? Żółć."),
    ("Arabic", "مرحبا بالعالم. هذا فيديو MP4 جديد."),
    ("Hebrew", "שלום עולם. זה סרטון MP4 חדש."),
    ("Thai", "สวัสดีชาวโลก นี่คือวิดีโอใหม่ที่น้ำทะเล"),
    ("Devanagari", "नमस्ते दुनिया। यह क्षत्रिय की हिन्दी है।"),
    ("Japanese", "こんにちは世界。新しい動画です。"),
];
