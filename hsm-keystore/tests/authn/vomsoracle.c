/* What libvomsapi says of a proxy with full verification: prints the FQANs, or its error.
 * gcc vomsoracle.c -I/usr/include/voms -lvomsapi -lcrypto; X509_CERT_DIR and X509_VOMS_DIR name the directories. */
#include <stdio.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <voms/voms_apic.h>

int main(int count, char **arguments) {
  if (count != 2) return 2;
  BIO *file = BIO_new_file(arguments[1], "r");
  if (!file) return 2;
  X509 *leaf = PEM_read_bio_X509(file, NULL, NULL, NULL);
  STACK_OF(X509) *chain = sk_X509_new_null();
  X509 *next;
  while ((next = PEM_read_bio_X509(file, NULL, NULL, NULL)) != NULL) sk_X509_push(chain, next);
  int error = 0;
  struct vomsdata *data = VOMS_Init(NULL, NULL);
  if (!leaf || !data || !VOMS_SetVerificationType(VERIFY_FULL, data, &error)) return 2;
  if (!VOMS_Retrieve(leaf, chain, RECURSE_CHAIN, data, &error)) {
    char text[1024];
    printf("ERROR %d %s\n", error, VOMS_ErrorMessage(data, error, text, sizeof text));
    return 1;
  }
  for (int i = 0; data->data && data->data[i]; i++)
    for (int j = 0; data->data[i]->fqan && data->data[i]->fqan[j]; j++) printf("%s\n", data->data[i]->fqan[j]);
  return 0;
}
