/* A program that nobody trusts: asks, or reads the answer to what another program asked.
 * Usage: steal PATH, or steal with that connection on descriptor 3 */
#include "peer.h"

int main(int argc, char **argv) {
    print_answer("thief", argc > 1 ? connect_to(argv[1]) : 3);
}
