#!/bin/bash
# A small grid for the tests of real VOMS tools: pki.sh DIRECTORY
# One authority, two people, a VOMS server; certificates/ in the hashed layout, vomsdir/ with one .lsc.
set -eu
cd "$1"
mkdir -p certificates vomsdir/myvo
cat > ca.cnf <<X
[req]
distinguished_name=dn
[dn]
[ca]
basicConstraints=critical,CA:TRUE
keyUsage=critical,keyCertSign,cRLSign
subjectKeyIdentifier=hash
[person]
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature,keyEncipherment
extendedKeyUsage=clientAuth
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid
[host]
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature,keyEncipherment
extendedKeyUsage=serverAuth,clientAuth
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid
subjectAltName=DNS:voms.example.org,DNS:localhost,IP:127.0.0.1
X
openssl req -x509 -newkey rsa:2048 -nodes -sha256 -days 30 -keyout ca.key -out ca.pem -config ca.cnf -extensions ca \
  -subj "/DC=org/DC=example/CN=Test CA" 2>/dev/null
issue() { # name subject section
  openssl req -new -newkey rsa:2048 -nodes -keyout "$1.key" -out "$1.csr" -subj "$2" -config ca.cnf 2>/dev/null
  openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 20 -sha256 -extfile ca.cnf -extensions "$3" \
    -out "$1.pem" 2>/dev/null
  chmod 600 "$1.key"
}
issue alice "/DC=org/DC=example/OU=people/CN=Alice Radiologist" person
issue bob "/DC=org/DC=example/OU=people/CN=Bob Researcher" person
issue voms "/DC=org/DC=example/OU=hosts/CN=voms.example.org" host
issue se "/DC=org/DC=example/OU=hosts/CN=localhost" host
# A self-made authority of the same name, and its server of the same name.
openssl req -x509 -newkey rsa:2048 -nodes -sha256 -days 30 -keyout forged-ca.key -out forged-ca.pem -config ca.cnf -extensions ca \
  -subj "/DC=org/DC=example/CN=Test CA" 2>/dev/null
openssl req -new -newkey rsa:2048 -nodes -keyout forged.key -out forged.csr -subj "/DC=org/DC=example/OU=hosts/CN=voms.example.org" \
  -config ca.cnf 2>/dev/null
openssl x509 -req -in forged.csr -CA forged-ca.pem -CAkey forged-ca.key -CAcreateserial -days 20 -sha256 -extfile ca.cnf \
  -extensions host -out forged.pem 2>/dev/null
chmod 600 forged.key
for hash in "$(openssl x509 -in ca.pem -noout -subject_hash)" "$(openssl x509 -in ca.pem -noout -subject_hash_old)"; do
  cp ca.pem "certificates/$hash.0"
  cat > "certificates/$hash.signing_policy" <<X
access_id_CA   X509    '/DC=org/DC=example/CN=Test CA'
pos_rights     globus  CA:sign
cond_subjects  globus  '"/DC=org/DC=example/*"'
X
done
printf '%s\n' "/DC=org/DC=example/OU=hosts/CN=voms.example.org" "/DC=org/DC=example/CN=Test CA" > vomsdir/myvo/voms.example.org.lsc
