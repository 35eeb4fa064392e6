//! The system calls that no safe crate offers: whole batches of datagrams with the local address of each
//! (recvmmsg(2), sendmmsg(2), ip(7) `IP_PKTINFO`, RFC 3542 §6 `IPV6_PKTINFO`), a few socket options, the machine's addresses.
//!
//! The only file with unsafe code. It knows no SIP, keeps no state between calls but its buffers, and decides nothing.

#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

use libc::{c_int, c_void, socklen_t};

use crate::bpf::Instruction;
use crate::limits::MESSAGE_BYTES_MAX;

/// Datagrams that one call receives or sends at most. At 64 the cost of the call itself is below a tenth of the batch's.
pub const BATCH: usize = 64;

/// Bytes of one slot: the longest datagram there is, so that none is cut.
const SLOT: usize = MESSAGE_BYTES_MAX + 1;

/// From one slot to the next: not a power of two, or the heads of all messages of a batch would share a few lines of the
/// processor's caches.
const STRIDE: usize = SLOT + 13 * 64;

/// Room for the control messages of one datagram: `IPV6_PKTINFO` takes 40, the rest is to spare.
#[repr(C, align(16))]
#[derive(Clone, Copy)]
struct Control([u8; 128]);

/// A datagram as received, borrowed from its [`ReceiveBatch`].
pub struct Received<'a> {
    /// The sender.
    pub remote: SocketAddr,
    /// The address it was sent to, with the interface of a link-local one.
    pub local: Option<(IpAddr, u32)>,
    /// When the kernel got it, of Unix time, if [`receive_timestamps`] was asked for.
    pub stamp: Option<Duration>,
    /// The payload.
    pub bytes: &'a [u8],
}

/// Buffers for one recvmmsg, allocated once. The payloads' 4 MiB are zero pages until a datagram is written into them.
pub struct ReceiveBatch {
    bytes: Box<[u8]>,
    names: Box<[libc::sockaddr_storage]>,
    controls: Box<[Control]>,
    vectors: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
    /// Slots that the last call filled. Only below it do `headers` say something.
    count: usize,
}

impl Default for ReceiveBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl ReceiveBatch {
    /// Empty buffers.
    pub fn new() -> Self {
        Self {
            // `vec!` of zeros is calloc: the kernel gives pages when they are written to.
            bytes: vec![0; BATCH * STRIDE].into_boxed_slice(),
            names: storages(),
            controls: vec![Control([0; 128]); BATCH].into_boxed_slice(),
            vectors: vectors(),
            headers: headers(),
            count: 0,
        }
    }

    /// Receives what waits, at most [`BATCH`] datagrams. Fewer than that: the queue was empty then.
    ///
    /// # Errors
    /// `WouldBlock` when nothing waits.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.receive_at_most(socket, BATCH)
    }

    /// The same, with a bound below [`BATCH`].
    ///
    /// # Errors
    /// `WouldBlock` when nothing waits.
    pub fn receive_at_most(&mut self, socket: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
        let most = most.min(BATCH);
        self.count = 0;
        let bytes = self.bytes.as_mut_ptr();
        let names = self.names.as_mut_ptr();
        let controls = self.controls.as_mut_ptr();
        let vectors = self.vectors.as_mut_ptr();
        for (index, header) in self.headers.iter_mut().take(most).enumerate() {
            let vector = vectors.wrapping_add(index);
            // SAFETY: `index < BATCH`, the length of `vectors`; nothing else refers to it now.
            unsafe {
                vector.write(libc::iovec {
                    iov_base: bytes.wrapping_add(index * STRIDE).cast(),
                    iov_len: SLOT,
                });
            }
            let message = &mut header.msg_hdr;
            message.msg_name = names.wrapping_add(index).cast();
            message.msg_namelen = size_of::<libc::sockaddr_storage>() as socklen_t;
            message.msg_iov = vector;
            message.msg_iovlen = 1;
            message.msg_control = controls.wrapping_add(index).cast();
            message.msg_controllen = size_of::<Control>() as _;
            message.msg_flags = 0;
            header.msg_len = 0;
        }
        // SAFETY: `headers` has BATCH elements; each of the first `most` points to an iovec, a name and a control buffer of
        // its own in boxes that `self` owns, that live beyond the call and that nobody else touches during it; the lengths
        // are theirs.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                most as _,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        self.count = usize::try_from(received)
            .map_err(|_| io::Error::last_os_error())?
            .min(most);
        Ok(self.count)
    }

    /// The datagrams of the last [`receive`](Self::receive), in order, without those that were cut or whose sender is
    /// neither IPv4 nor IPv6.
    pub fn datagrams(&self) -> impl Iterator<Item = Received<'_>> {
        (0..self.count).filter_map(|place| self.datagram(place))
    }

    /// The one in a place of the batch, if it is one of those.
    pub fn datagram(&self, place: usize) -> Option<Received<'_>> {
        let header = self.headers[..self.count].get(place)?;
        if header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0 {
            return None;
        }
        let remote = read_address(&self.names[place])?;
        let length = (header.msg_len as usize).min(SLOT);
        let start = place * STRIDE;
        let mut received = Received {
            remote,
            local: None,
            stamp: None,
            bytes: &self.bytes[start..start + length],
        };
        read_control(&header.msg_hdr, &mut received);
        Some(received)
    }
}

/// Reads the destination address from a received message's control buffer.
fn read_control(message: &libc::msghdr, received: &mut Received<'_>) {
    // SAFETY: the kernel filled `msg_control` of `msg_controllen` bytes in a buffer that lives as long as the batch
    // that `message` is part of; CMSG_FIRSTHDR and CMSG_NXTHDR stay inside it and give null at its end.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !next.is_null() {
        // SAFETY: not null, so it points to a whole, aligned cmsghdr inside the buffer.
        let header = unsafe { &*next };
        // SAFETY: as above; the data begins behind the header.
        let data = unsafe { libc::CMSG_DATA(next) };
        let length = header.cmsg_len as usize;
        // SAFETY: only computes a length.
        let whole = |bytes: usize| length >= unsafe { libc::CMSG_LEN(bytes as u32) } as usize;
        match (header.cmsg_level, header.cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) if whole(size_of::<libc::in_pktinfo>()) => {
                // SAFETY: the control message is long enough for the type that its level and type name.
                let info = unsafe { ptr::read_unaligned(data.cast::<libc::in_pktinfo>()) };
                // The local address of the packet; the header's destination may be a broadcast address.
                let address = Ipv4Addr::from_bits(u32::from_be(info.ipi_spec_dst.s_addr));
                received.local = Some((address.into(), 0));
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) if whole(size_of::<libc::in6_pktinfo>()) => {
                // SAFETY: as above.
                let info = unsafe { ptr::read_unaligned(data.cast::<libc::in6_pktinfo>()) };
                let address = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                let scope = if address.is_unicast_link_local() {
                    info.ipi6_ifindex as u32
                } else {
                    0
                };
                received.local = Some((address.into(), scope));
            }
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) if whole(size_of::<libc::timespec>()) => {
                // SAFETY: as above.
                let stamp = unsafe { ptr::read_unaligned(data.cast::<libc::timespec>()) };
                let (seconds, nanos) = (stamp.tv_sec.max(0) as u64, stamp.tv_nsec as u32);
                received.stamp = Some(Duration::new(seconds, nanos));
            }
            _ => {}
        }
        // SAFETY: `next` came from CMSG_FIRSTHDR or CMSG_NXTHDR of this message.
        next = unsafe { libc::CMSG_NXTHDR(message, next) };
    }
}

/// A datagram to send.
#[derive(Clone, Copy)]
pub struct Outgoing<'a> {
    /// To whom.
    pub remote: SocketAddr,
    /// Address to send it from; `None`: the kernel's choice.
    pub local: Option<SocketAddr>,
    /// The payload.
    pub bytes: &'a [u8],
}

impl Outgoing<'_> {
    /// Fills the unused rest of a batch.
    pub const NONE: Self = Outgoing {
        remote: SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)),
        local: None,
        bytes: &[],
    };
}

/// Buffers for one sendmmsg, allocated once.
pub struct SendBatch {
    names: Box<[libc::sockaddr_storage]>,
    controls: Box<[Control]>,
    vectors: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
}

impl Default for SendBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl SendBatch {
    /// Empty buffers.
    pub fn new() -> Self {
        Self {
            names: storages(),
            controls: vec![Control([0; 128]); BATCH].into_boxed_slice(),
            vectors: vectors(),
            headers: headers(),
        }
    }

    /// Sends the first of `datagrams` by `socket`, at most [`BATCH`]; how many, at least one unless `datagrams` is empty.
    ///
    /// # Errors
    /// The first one could not be sent, and nothing was.
    pub fn send(
        &mut self,
        socket: BorrowedFd<'_>,
        datagrams: &[Outgoing<'_>],
    ) -> io::Result<usize> {
        let count = datagrams.len().min(BATCH);
        let names = self.names.as_mut_ptr();
        let controls = self.controls.as_mut_ptr();
        let vectors = self.vectors.as_mut_ptr();
        for (index, datagram) in datagrams.iter().take(BATCH).enumerate() {
            let name = names.wrapping_add(index);
            let vector = vectors.wrapping_add(index);
            // SAFETY: `index < BATCH`, the length of `names`, `vectors` and `controls`; nothing else refers to these
            // elements now.
            let (name_length, control) = unsafe {
                vector.write(libc::iovec {
                    iov_base: datagram.bytes.as_ptr().cast_mut().cast(),
                    iov_len: datagram.bytes.len(),
                });
                (
                    write_address(&mut *name, datagram.remote),
                    &mut *controls.wrapping_add(index),
                )
            };
            let header = &mut self.headers[index];
            header.msg_len = 0;
            let message = &mut header.msg_hdr;
            message.msg_name = name.cast();
            message.msg_namelen = name_length;
            message.msg_iov = vector;
            message.msg_iovlen = 1;
            message.msg_flags = 0;
            write_control(message, control, datagram.local);
        }
        // SAFETY: the first `count` headers were just set; they point to elements of boxes that `self` owns and to payloads
        // that `datagrams` borrows, all beyond the call. The kernel writes to nothing but `msg_len`.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                count as _,
                (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

/// Says in a message's control buffer which address to send from.
fn write_control(message: &mut libc::msghdr, control: &mut Control, local: Option<SocketAddr>) {
    match local {
        None => {
            message.msg_control = ptr::null_mut();
            message.msg_controllen = 0;
        }
        Some(SocketAddr::V4(local)) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr {
                    s_addr: local.ip().to_bits().to_be(),
                },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            write_control_message(message, control, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
        }
        Some(SocketAddr::V6(local)) => {
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr {
                    s6_addr: local.ip().octets(),
                },
                ipi6_ifindex: local.scope_id() as _,
            };
            write_control_message(
                message,
                control,
                libc::IPPROTO_IPV6,
                libc::IPV6_PKTINFO,
                info,
            );
        }
    }
}

/// Makes one control message with `value` as its data the whole of `control`, and `control` that of `message`.
fn write_control_message<T: Copy>(
    message: &mut libc::msghdr,
    control: &mut Control,
    level: c_int,
    kind: c_int,
    value: T,
) {
    // 16 bytes of header on 64-bit machines, and as many of alignment at most.
    const { assert!(size_of::<T>() + 32 <= size_of::<Control>()) };
    message.msg_control = ptr::from_mut(control).cast();
    message.msg_controllen = size_of::<Control>() as _;
    // SAFETY: the buffer is a whole `Control`, aligned for a cmsghdr and longer than CMSG_SPACE of `T`, and `msg_controllen`
    // says so; hence CMSG_FIRSTHDR is not null, and header and data lie inside it.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(message);
        (*header).cmsg_level = level;
        (*header).cmsg_type = kind;
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<T>() as u32) as _;
        ptr::write_unaligned(libc::CMSG_DATA(header).cast::<T>(), value);
        message.msg_controllen = libc::CMSG_SPACE(size_of::<T>() as u32) as _;
    }
}

fn storages() -> Box<[libc::sockaddr_storage]> {
    // SAFETY: plain data, for which all zeros is a value.
    vec![unsafe { mem::zeroed::<libc::sockaddr_storage>() }; BATCH].into_boxed_slice()
}

fn vectors() -> Box<[libc::iovec]> {
    vec![
        libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0
        };
        BATCH
    ]
    .into_boxed_slice()
}

fn headers() -> Box<[libc::mmsghdr]> {
    // SAFETY: plain data, for which all zeros (null pointers, no lengths) is a value.
    vec![unsafe { mem::zeroed::<libc::mmsghdr>() }; BATCH].into_boxed_slice()
}

/// An address as the kernel wrote it, IPv4-mapped IPv6 as IPv4; `None` for other families.
fn read_address(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    let pointer = ptr::from_ref(storage);
    match c_int::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: sockaddr_storage is larger than and aligned for every sockaddr; the family says which it is.
            let name = unsafe { &*pointer.cast::<libc::sockaddr_in>() };
            let address = Ipv4Addr::from_bits(u32::from_be(name.sin_addr.s_addr));
            Some(SocketAddr::from((address, u16::from_be(name.sin_port))))
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let name = unsafe { &*pointer.cast::<libc::sockaddr_in6>() };
            let address = Ipv6Addr::from(name.sin6_addr.s6_addr);
            let port = u16::from_be(name.sin6_port);
            Some(match address.to_ipv4_mapped() {
                Some(v4) => SocketAddr::from((v4, port)),
                // The flow label is of no meaning to an answer, and would make equal flows differ.
                None => SocketAddrV6::new(address, port, 0, name.sin6_scope_id).into(),
            })
        }
        _ => None,
    }
}

/// Writes an address as the kernel reads it; its length.
fn write_address(storage: &mut libc::sockaddr_storage, address: SocketAddr) -> socklen_t {
    let pointer = ptr::from_mut(storage);
    match address {
        SocketAddr::V4(v4) => {
            // SAFETY: sockaddr_storage is larger than and aligned for every sockaddr; zeros are a value of it.
            let name = unsafe { &mut *pointer.cast::<libc::sockaddr_in>() };
            name.sin_family = libc::AF_INET as libc::sa_family_t;
            name.sin_port = v4.port().to_be();
            name.sin_addr.s_addr = v4.ip().to_bits().to_be();
            size_of::<libc::sockaddr_in>() as socklen_t
        }
        SocketAddr::V6(v6) => {
            // SAFETY: as above.
            let name = unsafe { &mut *pointer.cast::<libc::sockaddr_in6>() };
            name.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            name.sin6_port = v6.port().to_be();
            name.sin6_flowinfo = 0;
            name.sin6_addr.s6_addr = v6.ip().octets();
            name.sin6_scope_id = v6.scope_id();
            size_of::<libc::sockaddr_in6>() as socklen_t
        }
    }
}

/// Asks the kernel to tell, with each datagram of this socket, the address it was sent to.
///
/// # Errors
/// The kernel's.
pub(super) fn receive_control_messages(socket: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    if v6 {
        set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)
    } else {
        set_option(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)
    }
}

/// A socket's receive queue as the kernel sees it.
#[derive(Clone, Copy, Debug)]
pub struct Queue {
    /// Bytes of buffer that what waits takes, with the kernel's bookkeeping; up to a quarter of the buffer too many.
    pub bytes: usize,
    /// Datagrams that were lost since the socket was opened. The counter wraps.
    pub drops: u32,
}

/// Asks about a socket's receive queue (`SO_MEMINFO`).
///
/// # Errors
/// Not every kernel tells (user-mode emulation does not).
pub fn receive_queue(socket: BorrowedFd<'_>) -> io::Result<Queue> {
    let mut values = [0u32; libc::SK_MEMINFO_DROPS as usize + 1];
    let mut length = size_of_val(&values) as socklen_t;
    let pointer: *mut c_void = values.as_mut_ptr().cast();
    // SAFETY: `pointer` is that of `length` bytes to write to, and `length` is that of a socklen_t.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            pointer,
            &mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // Older kernels tell fewer values: the others stay 0.
    Ok(Queue {
        bytes: values[libc::SK_MEMINFO_RMEM_ALLOC as usize] as usize,
        drops: values[libc::SK_MEMINFO_DROPS as usize],
    })
}

/// Sets a receive buffer beyond `net.core.rmem_max` (needs CAP_NET_ADMIN).
///
/// # Errors
/// `PermissionDenied` without that capability.
pub fn force_receive_buffer(socket: BorrowedFd<'_>, bytes: usize) -> io::Result<()> {
    let bytes = c_int::try_from(bytes).unwrap_or(c_int::MAX);
    set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes)
}

/// Has the kernel run `program` on every packet of this socket before it is queued, in place of the program that it has.
/// Sockets that a listener accepts begin with its program.
///
/// # Errors
/// The kernel's: `ENOMEM` when the old and the new program together do not fit into the socket's option memory
/// (`net.core.optmem_max`).
pub fn attach_filter(socket: BorrowedFd<'_>, program: &[Instruction]) -> io::Result<()> {
    attach(socket, libc::SO_ATTACH_FILTER, program)
}

/// Takes the socket's program away.
///
/// # Errors
/// The kernel's. A socket without a program is none.
pub fn detach_filter(socket: BorrowedFd<'_>) -> io::Result<()> {
    match set_option(socket, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, 0) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        result => result,
    }
}

/// Has the kernel choose by `program` which socket of this one's group (`SO_REUSEPORT`) receives a packet.
///
/// # Errors
/// The kernel's: `ENOMEM` when the program is larger than `net.core.optmem_max`.
pub fn attach_reuseport_program(socket: BorrowedFd<'_>, program: &[Instruction]) -> io::Result<()> {
    attach(socket, libc::SO_ATTACH_REUSEPORT_CBPF, program)
}

fn attach(socket: BorrowedFd<'_>, option: c_int, program: &[Instruction]) -> io::Result<()> {
    let of = |instruction: &Instruction| libc::sock_filter {
        code: instruction.code,
        jt: instruction.jt,
        jf: instruction.jf,
        k: instruction.k,
    };
    let mut instructions: Vec<libc::sock_filter> = program.iter().map(of).collect();
    let head = libc::sock_fprog {
        len: u16::try_from(instructions.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: instructions.as_mut_ptr(),
    };
    let pointer: *const c_void = ptr::from_ref(&head).cast();
    // SAFETY: `pointer` is that of a sock_fprog whose `filter` points to `len` instructions; both live until the call
    // returns, and the kernel, which copies and checks them, writes to neither. The length is that of a sock_fprog.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            pointer,
            size_of::<libc::sock_fprog>() as socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Asks for the time at which the kernel got each datagram (socket(7) `SO_TIMESTAMPNS`), for who measures.
///
/// # Errors
/// The kernel's.
pub fn receive_timestamps(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)
}

fn set_option(socket: BorrowedFd<'_>, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    let pointer: *const c_void = ptr::from_ref(&value).cast();
    // SAFETY: `pointer` is that of a c_int that lives until the call returns, and the length is its own.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            pointer,
            size_of::<c_int>() as socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Wakes a poll at a time that may be a fraction of a millisecond away: timerfd_create(2). What it is registered with gets
/// an event each time that it is over, edge-triggered, without its being read.
pub(super) struct Timer(OwnedFd);

impl Timer {
    /// One that is not set.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn new() -> io::Result<Self> {
        let flags = libc::TFD_NONBLOCK | libc::TFD_CLOEXEC;
        // SAFETY: takes no pointers.
        let descriptor = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just opened, and nobody else's.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(descriptor) }))
    }

    /// Sets it, once, to less than a second from now. Zero is taken for a nanosecond.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn set(&self, time: Duration) -> io::Result<()> {
        let zero = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let setting = libc::itimerspec {
            it_interval: zero,
            it_value: libc::timespec {
                tv_sec: 0,
                tv_nsec: time.subsec_nanos().max(1) as _,
            },
        };
        // SAFETY: `setting` is a whole itimerspec that lives until the call returns; the old setting is not asked for.
        let result =
            unsafe { libc::timerfd_settime(self.0.as_raw_fd(), 0, &setting, ptr::null_mut()) };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Lets this process open as many files (connections) as its hard limit allows; the limit then.
///
/// # Errors
/// The kernel's.
pub fn raise_file_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a whole rlimit to write to.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is a whole rlimit to read from.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    #[allow(
        clippy::useless_conversion,
        reason = "rlim_t is 32 bits wide on some targets"
    )]
    Ok(u64::from(limit.rlim_cur))
}

/// Bytes from which on an allocation is a mapping of its own.
#[cfg(target_env = "gnu")]
const MAPPED_BYTES: c_int = 128 << 10;

/// Has the allocator give large blocks back to the system as soon as they are freed. glibc keeps them among small ones once a
/// block of their size was freed (mallopt(3)): what a busy hour had to remember would be ours for good.
pub(super) fn return_large_blocks() {
    #[cfg(target_env = "gnu")]
    // SAFETY: only sets a number of the allocator, before there are other threads. That it does not take it changes nothing
    // that anything relies on.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES);
    }
}

/// The addresses of this machine's interfaces that are up, in the kernel's order.
///
/// # Errors
/// The kernel's.
pub(super) fn interface_addresses() -> io::Result<Vec<IpAddr>> {
    let mut list: *mut libc::ifaddrs = ptr::null_mut();
    // SAFETY: `list` is a pointer to write to; freed below.
    if unsafe { libc::getifaddrs(&mut list) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut addresses = Vec::new();
    let mut next = list;
    while !next.is_null() {
        // SAFETY: not null, so an element of the list that getifaddrs made and that is not freed yet.
        let interface = unsafe { &*next };
        next = interface.ifa_next;
        if interface.ifa_addr.is_null() || interface.ifa_flags & libc::IFF_UP as u32 == 0 {
            continue;
        }
        // SAFETY: `ifa_addr` is not null, so it points to a sockaddr, at least as long as its family says.
        let address = unsafe {
            match c_int::from((*interface.ifa_addr).sa_family) {
                libc::AF_INET => {
                    let name = ptr::read_unaligned(interface.ifa_addr.cast::<libc::sockaddr_in>());
                    IpAddr::V4(Ipv4Addr::from_bits(u32::from_be(name.sin_addr.s_addr)))
                }
                libc::AF_INET6 => {
                    let name = ptr::read_unaligned(interface.ifa_addr.cast::<libc::sockaddr_in6>());
                    IpAddr::V6(Ipv6Addr::from(name.sin6_addr.s6_addr))
                }
                _ => continue,
            }
        };
        addresses.push(address);
    }
    // SAFETY: `list` is what getifaddrs gave; no reference into it is left.
    unsafe { libc::freeifaddrs(list) };
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    fn socket(address: &str) -> UdpSocket {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_nonblocking(true).unwrap();
        receive_control_messages(socket.as_fd(), socket.local_addr().unwrap().is_ipv6()).unwrap();
        socket
    }

    fn peer(address: &str) -> UdpSocket {
        let socket = UdpSocket::bind(address).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        socket
    }

    /// A batch arrives whole, with the address that each datagram was sent to, and is answered from that address.
    #[test]
    fn batch_with_addresses_both_ways() {
        let server = socket("0.0.0.0:0");
        let port = server.local_addr().unwrap().port();
        let client = peer("127.0.0.1:0");
        for index in 0..100u8 {
            let last = index % 3 + 1;
            client
                .send_to(&[index; 300], (format!("127.0.0.{last}"), port))
                .unwrap();
        }
        let mut receive = ReceiveBatch::new();
        let mut send = SendBatch::new();
        let mut seen = 0u8;
        while let Ok(count) = receive.receive(server.as_fd()) {
            assert_eq!(count, if seen == 0 { BATCH } else { 100 - BATCH });
            let mut answers = Vec::new();
            for datagram in receive.datagrams() {
                assert_eq!(datagram.bytes, [seen; 300]);
                assert_eq!(datagram.remote, client.local_addr().unwrap());
                let (local, scope) = datagram.local.unwrap();
                assert_eq!(local, IpAddr::from([127, 0, 0, seen % 3 + 1]));
                assert_eq!(scope, 0);
                let local = Some(SocketAddr::new(local, port));
                answers.push(Outgoing {
                    remote: datagram.remote,
                    local,
                    bytes: datagram.bytes,
                });
                seen += 1;
            }
            assert_eq!(send.send(server.as_fd(), &answers).unwrap(), answers.len());
        }
        assert_eq!(seen, 100);
        for index in 0..100u8 {
            let mut bytes = [0; 400];
            let (length, from) = client.recv_from(&mut bytes).unwrap();
            assert_eq!(bytes[..length], [index; 300]);
            assert_eq!(from, SocketAddr::from(([127, 0, 0, index % 3 + 1], port)));
        }
    }

    #[test]
    fn ipv6_and_largest_datagram() {
        let server = socket("[::]:0");
        let port = server.local_addr().unwrap().port();
        let client = peer("[::1]:0");
        let long = vec![7u8; 65_487];
        client.send_to(&long, ("::1", port)).unwrap();
        let mut receive = ReceiveBatch::new();
        assert_eq!(receive.receive(server.as_fd()).unwrap(), 1);
        let datagram = receive.datagrams().next().unwrap();
        assert_eq!(datagram.bytes, long);
        assert_eq!(datagram.local, Some((Ipv6Addr::LOCALHOST.into(), 0)));
        let answer = Outgoing {
            remote: datagram.remote,
            local: Some(SocketAddr::from((Ipv6Addr::LOCALHOST, port))),
            bytes: b"short",
        };
        assert_eq!(SendBatch::new().send(server.as_fd(), &[answer]).unwrap(), 1);
        let mut bytes = [0; 10];
        assert_eq!(client.recv_from(&mut bytes).unwrap().0, 5);
        let nothing = receive.receive(server.as_fd()).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(receive.datagrams().count(), 0);
    }

    #[test]
    fn time_of_receipt_is_told() {
        let server = socket("127.0.0.1:0");
        receive_timestamps(server.as_fd()).unwrap();
        let unix = || std::time::UNIX_EPOCH.elapsed().unwrap();
        let before = unix();
        let client = peer("127.0.0.1:0");
        client.send_to(b"x", server.local_addr().unwrap()).unwrap();
        let mut receive = ReceiveBatch::new();
        receive.receive(server.as_fd()).unwrap();
        // The first who asks for it in a while may be told when it was read.
        let after = unix();
        let stamp = receive.datagrams().next().unwrap().stamp.unwrap();
        assert!((before..=after).contains(&stamp), "{stamp:?}");
    }

    #[test]
    fn timer_wakes_a_poll_each_time_that_it_is_set() {
        let timer = Timer::new().unwrap();
        let mut poll = mio::Poll::new().unwrap();
        let descriptor = timer.as_raw_fd();
        let mut source = mio::unix::SourceFd(&descriptor);
        let token = mio::Token(5);
        poll.registry()
            .register(&mut source, token, mio::Interest::READABLE)
            .unwrap();
        let mut events = mio::Events::with_capacity(4);
        for _ in 0..3 {
            let begun = std::time::Instant::now();
            timer.set(Duration::from_micros(300)).unwrap();
            poll.poll(&mut events, Some(Duration::from_secs(5)))
                .unwrap();
            let time = begun.elapsed();
            assert!(events.iter().any(|event| event.token() == token));
            assert!(
                (300..2_500_000).contains(&time.as_micros()),
                "{time:?} and not 300 us"
            );
            poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
            assert!(events.is_empty());
        }
    }

    /// What waits in a socket and what it lost for want of buffer.
    #[test]
    fn queue_and_drops_are_told() {
        let server = socket("127.0.0.1:0");
        socket2::SockRef::from(&server)
            .set_recv_buffer_size(4096)
            .unwrap();
        let to = server.local_addr().unwrap();
        let client = peer("127.0.0.1:0");
        for _ in 0..200 {
            client.send_to(&[0; 1000], to).unwrap();
        }
        let queue = receive_queue(server.as_fd()).unwrap();
        assert!(queue.bytes >= 1000, "{queue:?}");
        let mut receive = ReceiveBatch::new();
        let received = receive.receive_at_most(server.as_fd(), 2).unwrap();
        assert_eq!((received, receive.datagrams().count()), (2, 2));
        let is_there = [0, 1, 2, 99].map(|place| receive.datagram(place).is_some());
        assert_eq!(is_there, [true, true, false, false]);
        let rest = receive.receive(server.as_fd()).unwrap_or(0);
        assert_eq!(queue.drops as usize + received + rest, 200);
    }

    #[test]
    fn unreachable_local_address_is_an_error() {
        let server = socket("0.0.0.0:0");
        let datagram = Outgoing {
            remote: SocketAddr::from(([127, 0, 0, 1], 9)),
            local: Some(SocketAddr::from(([203, 0, 113, 7], 5060))),
            bytes: b"x",
        };
        assert!(SendBatch::new().send(server.as_fd(), &[datagram]).is_err());
        assert_eq!(SendBatch::new().send(server.as_fd(), &[]).unwrap(), 0);
    }

    #[test]
    fn machine_has_a_loopback_address() {
        assert!(
            interface_addresses()
                .unwrap()
                .iter()
                .any(IpAddr::is_loopback)
        );
        assert!(raise_file_limit().unwrap() > 0);
    }
}
