"""A telephone of PJSUA2 without a sound card, for tests/peers/pjsua2.rs.

telephone.py SERVER ADDRESS USER PASSWORD TRANSPORT SECONDS [100rel] [timer] [unregistered] [manual] [tone=FILE]

With 100rel it requires reliable provisional responses, with timer a session timer of 90 s. Unregistered it only says that
it is registered; SERVER is a proxy then. Manually it only rings until it is told to answer. With
a tone it says that file over and over, in G.711.

Registers at SERVER from ADDRESS, answers every call, and does what it reads, a command a line:

    call NUMBER     hold       update            dtmf DIGITS (RFC 4733)
    call URI        resume     codec NAME        info DIGITS (INFO)
    hangup          answer
    blind NUMBER    consult NUMBER, attended (a second call beside the one that is on hold; both are joined)
    rx (says how many RTP packets it has received)
    record FILE     saved (what it hears from now until then is in the file)
    quit

Says what happens, one event a line: registered, incoming, confirmed, media STATE DIRECTION CODEC, rx N, digit D METHOD,
transaction METHOD CODE (of requests of its own within the call), transferred CODE, saved, disconnected CODE, end. Ends after
SECONDS at the latest.
"""

import os
import select
import sys
import time

import pjsua2 as pj

server, address, user, password, transport, seconds = sys.argv[1:7]
options = sys.argv[7:]
tone = next((option[5:] for option in options if option.startswith("tone=")), None)
deadline = time.monotonic() + float(seconds)
suffix = ";transport=tcp" if transport == "tcp" else ""
MEDIA = {
    pj.PJSUA_CALL_MEDIA_ACTIVE: "active",
    pj.PJSUA_CALL_MEDIA_LOCAL_HOLD: "local-hold",
    pj.PJSUA_CALL_MEDIA_REMOTE_HOLD: "remote-hold",
    pj.PJSUA_CALL_MEDIA_NONE: "none",
    pj.PJSUA_CALL_MEDIA_ERROR: "error",
}


def say(*words):
    print(*words, flush=True)


class Call(pj.Call):
    def onCallState(self, parameters):
        information = self.getInfo()
        if information.state == pj.PJSIP_INV_STATE_CONFIRMED:
            say("confirmed")
        elif information.state == pj.PJSIP_INV_STATE_DISCONNECTED:
            say("disconnected", information.lastStatusCode)

    def onCallMediaState(self, parameters):
        # The list lives as long as the information does.
        information = self.getInfo()
        for index, media in enumerate(information.media):
            if media.type != pj.PJMEDIA_TYPE_AUDIO:
                continue
            codec = "-"
            if media.status == pj.PJSUA_CALL_MEDIA_ACTIVE:
                # Something must be sent: the sound of the conference bridge's master port, which is silence.
                audio = self.getAudioMedia(index)
                source().startTransmit(audio)
                audio.startTransmit(endpoint.audDevManager().getPlaybackDevMedia())
                if account.recorder:
                    audio.startTransmit(account.recorder)
                codec = self.getStreamInfo(index).codecName
            say("media", MEDIA[media.status], media.dir, codec)

    def onDtmfDigit(self, parameters):
        method = {pj.PJSUA_DTMF_METHOD_RFC2833: "rtp", pj.PJSUA_DTMF_METHOD_SIP_INFO: "info"}
        say("digit", parameters.digit, method[parameters.method])

    def onCallTransferStatus(self, parameters):
        say("transferred", parameters.statusCode)

    def onCallTsxState(self, parameters):
        transaction = parameters.e.body.tsxState.tsx
        if transaction.role == pj.PJSIP_ROLE_UAC and transaction.state == pj.PJSIP_TSX_STATE_COMPLETED:
            say("transaction", transaction.method, transaction.statusCode)


class Account(pj.Account):
    call = None
    # On hold while another one is asked.
    held = None
    player = None
    recorder = None
    registered = False

    def onRegState(self, parameters):
        if parameters.code == 200 and parameters.expiration > 0:
            if not self.registered:
                say("registered")
            self.registered = True
        else:
            say("registration", parameters.code)

    def onIncomingCall(self, parameters):
        # The reference is kept: a collected Call is a call hung up.
        self.call = Call(self, parameters.callId)
        say("incoming")
        respond(180)
        if "manual" not in options:
            respond(200)


def respond(code):
    answer = pj.CallOpParam()
    answer.statusCode = code
    account.call.answer(answer)


def source():
    """What it says: its tone, or silence."""
    if tone is None:
        return endpoint.audDevManager().getCaptureDevMedia()
    if account.player is None:
        account.player = pj.AudioMediaPlayer()
        account.player.createPlayer(tone)
    return account.player


def record(path):
    account.file = path
    account.recorder = pj.AudioMediaRecorder()
    account.recorder.createRecorder(path)
    # The list lives as long as the information does.
    information = account.call.getInfo()
    for index, media in enumerate(information.media):
        if media.status == pj.PJSUA_CALL_MEDIA_ACTIVE:
            account.call.getAudioMedia(index).startTransmit(account.recorder)


def save():
    """Ends the recorder. That is done by another thread; the length in the file's header is written last."""
    account.recorder = None
    for _ in range(100):
        with open(account.file, "rb") as file:
            if any(file.read(44)[40:]):
                break
        endpoint.libHandleEvents(10)
    say("saved")


def dial(number):
    account.call = Call(account)
    uri = number if ":" in number else f"sip:{number}@{server}{suffix}"
    account.call.makeCall(uri, pj.CallOpParam(True))


def prefer(codec):
    """Offers this one first."""
    for information in endpoint.codecEnum2():
        wanted = information.codecId.upper().startswith(codec.upper() + "/8000")
        endpoint.codecSetPriority(information.codecId, 255 if wanted else 100)


def digits(text, method):
    parameters = pj.CallSendDtmfParam()
    parameters.digits = text
    parameters.method = method
    account.call.sendDtmf(parameters)


def obey(line):
    """False: it is to end."""
    word, _, rest = line.strip().partition(" ")
    call = account.call
    if word == "call":
        dial(rest)
    elif word == "hangup":
        call.hangup(pj.CallOpParam())
    elif word == "answer":
        respond(200)
    elif word == "hold":
        call.setHold(pj.CallOpParam())
    elif word == "resume":
        parameters = pj.CallOpParam(True)
        parameters.opt.flag = pj.PJSUA_CALL_UNHOLD
        call.reinvite(parameters)
    elif word == "update":
        call.update(pj.CallOpParam(True))
    elif word == "codec":
        prefer(rest)
        call.reinvite(pj.CallOpParam(True))
    elif word == "dtmf":
        digits(rest, pj.PJSUA_DTMF_METHOD_RFC2833)
    elif word == "info":
        digits(rest, pj.PJSUA_DTMF_METHOD_SIP_INFO)
    elif word == "blind":
        call.xfer(f"sip:{rest}@{server}", pj.CallOpParam())
    elif word == "consult":
        account.held = call
        dial(rest)
    elif word == "attended":
        account.held.xferReplaces(call, pj.CallOpParam())
    elif word == "record":
        record(rest)
    elif word == "saved":
        save()
    elif word == "rx":
        say("rx", call.getStreamStat(0).rtcp.rxStat.pkt)
    elif word == "quit":
        return False
    else:
        say("unknown", line)
    return True


endpoint = pj.Endpoint()
endpoint.libCreate()
configuration = pj.EpConfig()
configuration.uaConfig.threadCnt = 0
configuration.uaConfig.mainThreadOnly = True
# Silence is sent too, so that packets can be counted.
configuration.medConfig.noVad = True
if tone:
    configuration.medConfig.clockRate = 8000
configuration.logConfig.level = 0
configuration.logConfig.consoleLevel = 0
endpoint.libInit(configuration)
endpoint.audDevManager().setNullDev()
listening = pj.TransportConfig()
listening.boundAddress = address
listening.port = 5060
kind = {"udp": pj.PJSIP_TRANSPORT_UDP, "tcp": pj.PJSIP_TRANSPORT_TCP}[transport]
endpoint.transportCreate(kind, listening)
endpoint.libStart()
if tone:
    for information in endpoint.codecEnum2():
        if not information.codecId.startswith("PCM"):
            endpoint.codecSetPriority(information.codecId, 0)

settings = pj.AccountConfig()
settings.idUri = f"sip:{user}@{server}"
if "unregistered" not in options:
    settings.regConfig.registrarUri = f"sip:{server}{suffix}"
settings.sipConfig.authCreds.append(pj.AuthCredInfo("digest", "*", user, 0, password))
settings.sipConfig.proxies.append(f"sip:{server};lr{suffix}")
settings.mediaConfig.transportConfig.boundAddress = address
if "100rel" in options:
    settings.callConfig.prackUse = pj.PJSUA_100REL_MANDATORY
if "timer" in options:
    settings.callConfig.timerUse = pj.PJSUA_SIP_TIMER_ALWAYS
    settings.callConfig.timerMinSESec = 90
    settings.callConfig.timerSessExpiresSec = 90
account = Account()
account.create(settings)
if "unregistered" in options:
    say("registered")

running = True
pending = ""
while running and time.monotonic() < deadline:
    endpoint.libHandleEvents(10)
    if select.select([0], [], [], 0)[0]:
        read = os.read(0, 4096).decode()
        pending += read or "quit\n"
    while running and "\n" in pending:
        line, _, pending = pending.partition("\n")
        running = obey(line)

# The last references to the call go while the library still runs.
account.call = account.held = account.player = account.recorder = None
account.shutdown()
for _ in range(50):
    endpoint.libHandleEvents(10)
endpoint.libDestroy()
say("end")
