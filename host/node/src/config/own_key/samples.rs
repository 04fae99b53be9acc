//! Keys that are used nowhere but in these tests: made by OpenSSL 3 with `genpkey -algorithm EC -pkeyopt ec_paramgen_curve:SM2|secp256k1`,
//! and the same by `ec` in SEC1; with the point of the public key.

/// Of one curve in one form.
pub const SM2_PKCS8: &str = "\
-----BEGIN PRIVATE KEY-----\n\
MIGHAgEAMBMGByqGSM49AgEGCCqBHM9VAYItBG0wawIBAQQgkYJDUzOObtvRbVXx\n\
MG6AJbF9azRGvNseuiht4vwWnpWhRANCAARxzektxzRvw1BdFa3WEjPHriSRAJcN\n\
XRdUvYfDrNlhytINldoxCIjrQKE2nNEoqajQbbsySirhyUiuMp8IL8wJ\n\
-----END PRIVATE KEY-----\n";
/// Of one curve in one form.
pub const SM2_SEC1: &str = "\
-----BEGIN SM2 PRIVATE KEY-----\n\
MHcCAQEEIJGCQ1Mzjm7b0W1V8TBugCWxfWs0RrzbHroobeL8Fp6VoAoGCCqBHM9V\n\
AYItoUQDQgAEcc3pLcc0b8NQXRWt1hIzx64kkQCXDV0XVL2Hw6zZYcrSDZXaMQiI\n\
60ChNpzRKKmo0G27Mkoq4clIrjKfCC/MCQ==\n\
-----END SM2 PRIVATE KEY-----\n";
/// Of one curve in one form.
pub const SM2_PUBLIC: &str = "0471cde92dc7346fc3505d15add61233c7ae249100970d5d1754bd87c3acd961cad20d95da310888eb40a1369cd128a9a8d06dbb324a2ae1c948ae329f082fcc09";
/// Of one curve in one form.
pub const SECP256K1_PKCS8: &str = "\
-----BEGIN PRIVATE KEY-----\n\
MIGEAgEAMBAGByqGSM49AgEGBSuBBAAKBG0wawIBAQQgwK8N22Q6wTtiN7XGJt5/\n\
U+KmspZey1vL62HRDpX+oqOhRANCAATxkWkYoykioG6hfWK1vuDxuKG69pBCDEq+\n\
ZddN1koPmB6g1tS09zdZj/FZIucZzz4fAJHXnNkh2536NMX2pNOS\n\
-----END PRIVATE KEY-----\n";
/// Of one curve in one form.
pub const SECP256K1_SEC1: &str = "\
-----BEGIN EC PRIVATE KEY-----\n\
MHQCAQEEIMCvDdtkOsE7Yje1xibef1PiprKWXstby+th0Q6V/qKjoAcGBSuBBAAK\n\
oUQDQgAE8ZFpGKMpIqBuoX1itb7g8bihuvaQQgxKvmXXTdZKD5geoNbUtPc3WY/x\n\
WSLnGc8+HwCR15zZIdud+jTF9qTTkg==\n\
-----END EC PRIVATE KEY-----\n";
/// Of one curve in one form.
pub const SECP256K1_PUBLIC: &str = "04f1916918a32922a06ea17d62b5bee0f1b8a1baf690420c4abe65d74dd64a0f981ea0d6d4b4f737598ff15922e719cf3e1f0091d79cd921db9dfa34c5f6a4d392";
