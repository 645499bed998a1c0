#!/bin/sh
# A root, and a certificate under it for each side, as Istio's authority makes them: who one is stands in a SPIFFE URI.
# Made on the machine that uses them, into a volume of their own: no private key is in the checkout.
set -eu
cd /certificates
# Once, so that a proxy that starts again and one that goes on running trust the same root. The peer's is the last made.
[ ! -e peer.pem ] || exit 0

key="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
openssl req -x509 $key -days 3650 -subj /O=root -keyout root-key.pem -out root.pem
for side in home peer; do
  openssl req $key -subj /O=$side -keyout $side-key.pem -out $side.csr
  printf '%s\n' basicConstraints=critical,CA:FALSE keyUsage=critical,digitalSignature \
    extendedKeyUsage=serverAuth,clientAuth subjectAltName=URI:spiffe://cluster.local/ns/istio/sa/$side > $side.ext
  # The proxies do not run as root.
  chown envoy $side-key.pem
  openssl x509 -req -days 3650 -in $side.csr -extfile $side.ext -CA root.pem -CAkey root-key.pem -out $side.pem
done
rm root-key.pem ./*.csr ./*.ext
