# A stand-in of a storage resource manager, SRM v2.2, as far as libgfal2's client asks: srm.py PORT FILES CERT KEY CA
#
# Files are below FILES, and are handed out as file:// for the transfer itself. The wire is TLS 1.2 (the client knows no more)
# with a client certificate or proxy, one byte that says whether a proxy is delegated, then SOAP in one HTTP request for each
# connection. Each request is a line on standard output.
import os, re, socket, ssl, sys, threading

port, root = int(sys.argv[1]), sys.argv[2]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[3], sys.argv[4])
context.load_verify_locations(sys.argv[5])
context.verify_mode = ssl.CERT_REQUIRED
context.verify_flags |= 0x40  # X509_V_FLAG_ALLOW_PROXY_CERTS
context.maximum_version = ssl.TLSVersion.TLSv1_2
SUCCESS = "<statusCode>SRM_SUCCESS</statusCode>"


def status(code, why=""):
    return f"<statusCode>{code}</statusCode>" + (f"<explanation>{why}</explanation>" if why else "")


def place(surl):
    path = re.sub(r"^srm://[^/]+(/srm/managerv2\?SFN=)?", "", surl)
    full = os.path.normpath(root + "/" + path)
    if not full.startswith(root):
        raise ValueError("outside")
    return full


def details(surl):
    full = place(surl)
    path = full[len(root):] or "/"
    if not os.path.exists(full):
        return None, f"<pathDetailArray><path>{path}</path><status>{status('SRM_INVALID_PATH', 'No such file or directory')}</status></pathDetailArray>"
    kind = "DIRECTORY" if os.path.isdir(full) else "FILE"
    return kind, (
        f"<pathDetailArray><path>{path}</path><status>{SUCCESS}</status><size>{os.path.getsize(full)}</size>"
        f"<lastModificationTime>2026-11-23T10:00:00.000Z</lastModificationTime><type>{kind}</type>"
        "<ownerPermission><userID>a</userID><mode>RW</mode></ownerPermission><otherPermission>R</otherPermission>"
        "<fileLocality>ONLINE</fileLocality></pathDetailArray>"
    )


def transfer(method, surl):
    full, get = place(surl), method.endswith("Get")
    if get and not os.path.isfile(full):
        return "SRM_FAILURE", f"<sourceSURL>{surl}</sourceSURL><status>{status('SRM_INVALID_PATH', 'No such file or directory')}</status>"
    if not get and os.path.exists(full):
        return "SRM_FAILURE", f"<SURL>{surl}</SURL><status>{status('SRM_DUPLICATION_ERROR', 'File exists')}</status>"
    if not get and not os.path.isdir(os.path.dirname(full)):
        return "SRM_FAILURE", f"<SURL>{surl}</SURL><status>{status('SRM_INVALID_PATH', 'No such directory')}</status>"
    key, state = ("sourceSURL", "SRM_FILE_PINNED") if get else ("SURL", "SRM_SPACE_AVAILABLE")
    return "SRM_SUCCESS", f"<{key}>{surl}</{key}><status>{status(state)}</status><transferURL>file://{full}</transferURL>"


def handle(text):
    method = re.search(r"<srm2:(srm\w+)>", text).group(1)
    surls = re.findall(r"(srm://[^<]+)<", text)
    print(method, *surls, flush=True)
    answer = lambda inside: f"<srm:{method}Response><{method}Response>{inside}</{method}Response></srm:{method}Response>"
    said = lambda code, why="": answer(f"<returnStatus>{status(code, why)}</returnStatus>")
    if method == "srmPing":
        return answer("<versionInfo>v2.2</versionInfo>")
    if method == "srmLs":
        kind, detail = details(surls[0])
        return answer(f"<returnStatus>{status('SRM_SUCCESS' if kind else 'SRM_FAILURE')}</returnStatus><details>{detail}</details>")
    if method in ("srmPrepareToPut", "srmPrepareToGet"):
        code, inside = transfer(method, surls[0])
        return answer(
            f"<returnStatus>{status(code)}</returnStatus><requestToken>t1</requestToken>"
            f"<arrayOfFileStatuses><statusArray>{inside}</statusArray></arrayOfFileStatuses>"
        )
    if method == "srmRm":
        full = place(surls[0])
        there = os.path.isfile(full)
        if there:
            os.remove(full)
        each = SUCCESS if there else status("SRM_INVALID_PATH", "No such file or directory")
        return answer(
            f"<returnStatus>{status('SRM_SUCCESS' if there else 'SRM_FAILURE')}</returnStatus>"
            f"<arrayOfFileStatuses><statusArray><surl>{surls[0]}</surl><status>{each}</status></statusArray></arrayOfFileStatuses>"
        )
    if method == "srmMkdir":
        full = place(surls[0])
        if os.path.exists(full):
            return said("SRM_DUPLICATION_ERROR", "File exists")
        if not os.path.isdir(os.path.dirname(full)):
            return said("SRM_INVALID_PATH", "No such directory")
        os.mkdir(full)
        return said("SRM_SUCCESS")
    if method == "srmMv":
        old, new = place(surls[0]), place(surls[1])
        if not os.path.exists(old):
            return said("SRM_INVALID_PATH", "No such file or directory")
        try:
            os.link(old, new)
        except FileExistsError:
            return said("SRM_DUPLICATION_ERROR", "File exists")
        os.remove(old)
        return said("SRM_SUCCESS")
    if method in ("srmPutDone", "srmReleaseFiles", "srmAbortFiles"):
        each = "".join(f"<statusArray><surl>{surl}</surl><status>{SUCCESS}</status></statusArray>" for surl in surls)
        return answer(f"<returnStatus>{SUCCESS}</returnStatus><arrayOfFileStatuses>{each}</arrayOfFileStatuses>")
    return said("SRM_NOT_SUPPORTED", method)


def serve(plain):
    try:
        secure = context.wrap_socket(plain, server_side=True)
        secure.recv(1)  # the byte of delegation
        data = b""
        while b"\r\n\r\n" not in data:
            more = secure.recv(65536)
            if not more:
                return
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(re.search(rb"(?i)content-length: *(\d+)", head).group(1))
        while len(body) < length:
            body += secure.recv(65536)
        inside = handle(body[:length].decode())
        text = (
            '<?xml version="1.0"?><SOAP-ENV:Envelope xmlns:SOAP-ENV="http://schemas.xmlsoap.org/soap/envelope/" '
            'xmlns:srm="http://srm.lbl.gov/StorageResourceManager"><SOAP-ENV:Body>' + inside + "</SOAP-ENV:Body></SOAP-ENV:Envelope>"
        ).encode()
        secure.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/xml; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(text) + text
        )
        secure.close()
    except Exception as error:
        print("error", repr(error), flush=True)


listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", port))
listener.listen(64)
print("ready", flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
