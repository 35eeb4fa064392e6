//! Messages as phones and servers send them, for more than one bench.

/// A registration without credentials.
pub const REGISTER: &str = "REGISTER sip:pbx.example.com SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.168.1.50:5062;branch=z9hG4bK1f3c9a7d55e20b64;rport\r\n\
    Max-Forwards: 70\r\n\
    From: \"Reception\" <sip:100@pbx.example.com>;tag=8a7b6c5d4e3f\r\n\
    To: \"Reception\" <sip:100@pbx.example.com>\r\n\
    Call-ID: 0c9d8e7f6a5b4c3d2e1f@192.168.1.50\r\n\
    CSeq: 314 REGISTER\r\n\
    Contact: <sip:100@192.168.1.50:5062;transport=udp>;expires=3600\r\n\
    Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, INFO\r\n\
    User-Agent: Desk Phone 5.1\r\n\
    Expires: 3600\r\n\
    Content-Length: 0\r\n\r\n";

/// A call with credentials and SDP.
pub const INVITE: &str = "INVITE sip:200@pbx.example.com;user=phone SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.168.1.50:5062;branch=z9hG4bK2e4d6c8b0a1f3e5d;rport\r\n\
    Max-Forwards: 70\r\n\
    From: \"Reception\" <sip:100@pbx.example.com>;tag=1a2b3c4d5e6f\r\n\
    To: <sip:200@pbx.example.com;user=phone>\r\n\
    Call-ID: 9f8e7d6c5b4a39281706@192.168.1.50\r\n\
    CSeq: 2 INVITE\r\n\
    Contact: \"Reception\" <sip:100@192.168.1.50:5062;transport=udp>\r\n\
    Authorization: Digest username=\"100\", realm=\"pbx.example.com\", \
    nonce=\"AZk3f0Y0c2M5ZjE0ODdhYjE5MjMzYzc5ZjA1ZjY4\", uri=\"sip:200@pbx.example.com;user=phone\", \
    response=\"6629fae49393a05397450978507c4ef1\", algorithm=MD5, cnonce=\"0a4f113b\", qop=auth, \
    nc=00000001\r\n\
    Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, REFER, NOTIFY\r\n\
    Supported: replaces, timer, 100rel\r\n\
    Session-Expires: 1800;refresher=uac\r\n\
    User-Agent: Desk Phone 5.1\r\n\
    Content-Type: application/sdp\r\n\
    Content-Length: 317\r\n\r\n\
    v=0\r\no=- 20518 20518 IN IP4 192.168.1.50\r\ns=call\r\nc=IN IP4 192.168.1.50\r\nt=0 0\r\n\
    m=audio 11800 RTP/AVP 9 0 8 101\r\na=rtpmap:9 G722/8000\r\na=rtpmap:0 PCMU/8000\r\n\
    a=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\n\
    a=sendrecv\r\na=rtcp:11801\r\na=ssrc:3735928559 cname:reception@192.168.1.50\r\n";

/// The answer to a registration.
pub const OK: &str = "SIP/2.0 200 OK\r\n\
    Via: SIP/2.0/UDP 192.168.1.50:5062;branch=z9hG4bK1f3c9a7d55e20b64;rport=5062;received=192.168.1.50\r\n\
    From: \"Reception\" <sip:100@pbx.example.com>;tag=8a7b6c5d4e3f\r\n\
    To: \"Reception\" <sip:100@pbx.example.com>;tag=c0ffee\r\n\
    Call-ID: 0c9d8e7f6a5b4c3d2e1f@192.168.1.50\r\n\
    CSeq: 314 REGISTER\r\n\
    Contact: <sip:100@192.168.1.50:5062;transport=udp>;expires=600\r\n\
    Content-Length: 0\r\n\r\n";
