/* Runs AVR programs in simavr.
 *
 *   simavr_host bench  ELF MCU HZ LIMIT MARK END ROW MODEL SCORES DECISION FLASH EXTRA_RAM
 *   simavr_host serial ELF MCU HZ LIMIT UNTIL
 *
 * bench: the program writes one byte to GPIOR0 (data address MARK) at each turn of its loop,
 *     1  put the next row in RAM, and the number of the model it is for
 *     5  the empty predictor starts      6  it has ended
 *     2  the predictor starts            3  it has ended
 *     4  the scores are ready
 * and this host keeps the time: cycles between the marks, and how deep the stack went. stdin holds
 * jobs (model, rows, bytes per row, bytes of scores, bytes of decision; then the rows); stdout
 * receives for each row: cycles between 2 and 3, between 5 and 6 (64 bits each), stack in bytes
 * (32 bits), scores, decision. LIMIT is the number of cycles one row may take. EXTRA_RAM enlarges the
 * chip, so that a program that would overrun its RAM is measured instead of running astray.
 *
 * serial: what the program sends through its first UART goes to stdout, and stdin is sent to it,
 * until UNTIL has been seen or LIMIT cycles have passed.
 *
 * Exit code 0; 2: the request makes no sense; 3: the program failed, one line on stderr says how.
 */
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "avr_uart.h"
#include "sim_avr.h"
#include "sim_core.h"
#include "sim_elf.h"
#include "sim_io.h"

typedef struct {
    uint32_t model, rows, row_bytes, score_bytes, decision_bytes;
} job_t;

static struct {
    uint16_t end, row, model, scores, decision; /* data addresses in the program */
    job_t job;
    uint32_t row_number;   /* within the job */
    uint64_t total_rows;   /* over all jobs, for messages */
    uint64_t asked_at, started_at, cycles, overhead;
    uint16_t sp_at_start, sp_lowest, lowest_ok;
    uint32_t stack;
    uint8_t paint;
    int timing, in_row, finished;
} bench;

static FILE *answers; /* the real stdout: simavr prints messages of its own to stdout */

static void fail(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fputc('\n', stderr);
    exit(3);
}

static uint16_t stack_pointer(const avr_t *avr)
{
    return (uint16_t)(avr->data[R_SPL] | (avr->data[R_SPH] << 8));
}

/* --- bench ------------------------------------------------------------------------------------ */

static int read_job(void)
{
    while (fread(&bench.job, sizeof bench.job, 1, stdin) == 1) {
        bench.row_number = 0;
        if (bench.job.rows)
            return 1;
    }
    return 0;
}

static void give_row(avr_t *avr)
{
    if (bench.row_number == bench.job.rows && !read_job()) {
        bench.finished = 1;
        avr->state = cpu_Done;
        return;
    }
    if (fread(avr->data + bench.row, bench.job.row_bytes, 1, stdin) != 1)
        fail("the request ends within a row");
    if (bench.model)
        avr->data[bench.model] = (uint8_t)bench.job.model;
    bench.row_number++;
    bench.total_rows++;
    bench.asked_at = avr->cycle;
    bench.in_row = 1;
}

/* Two patterns take turns, so that a pushed byte which equals one of them is seen in the next row. */
static void paint_stack(avr_t *avr)
{
    bench.paint = bench.total_rows & 1 ? 0xA5 : 0x5A;
    bench.sp_at_start = bench.sp_lowest = stack_pointer(avr);
    if (bench.sp_at_start >= bench.end)
        memset(avr->data + bench.end, bench.paint, (size_t)(bench.sp_at_start - bench.end + 1));
}

static void measure_stack(const avr_t *avr)
{
    uint32_t touched = bench.end;
    while (touched <= bench.sp_at_start && avr->data[touched] == bench.paint)
        touched++;
    /* sp points at the first free byte, one below the last one in use */
    uint32_t lowest = touched - 1 < bench.sp_lowest ? touched - 1 : bench.sp_lowest;
    if (lowest < bench.end)
        fail("row %llu: the stack ran into static RAM",
             (unsigned long long)bench.total_rows - 1);
    bench.stack = bench.sp_at_start - lowest;
}

static void send_answer(const avr_t *avr)
{
    fwrite(&bench.cycles, 8, 1, answers);
    fwrite(&bench.overhead, 8, 1, answers);
    fwrite(&bench.stack, 4, 1, answers);
    fwrite(avr->data + bench.scores, 1, bench.job.score_bytes, answers);
    fwrite(avr->data + bench.decision, 1, bench.job.decision_bytes, answers);
    bench.in_row = 0;
}

static void on_mark(avr_t *avr, avr_io_addr_t address, uint8_t value, void *unused)
{
    (void)unused;
    avr->data[address] = value;
    switch (value) {
    case 1: give_row(avr); break;
    case 2: paint_stack(avr); bench.timing = 1; /* fall through */
    case 5: bench.started_at = avr->cycle; break;
    case 3: bench.cycles = avr->cycle - bench.started_at; bench.timing = 0; measure_stack(avr); break;
    case 6: bench.overhead = avr->cycle - bench.started_at; break;
    case 4: send_answer(avr); break;
    default: fail("the program wrote %d to GPIOR0", value);
    }
}

/* OUT SPL, the last step of allocating a frame: what pushes and calls change, the paint shows. simavr
   announces those too, but as one half of the stack pointer at a time. */
static int allocates_frame(const avr_t *avr)
{
    uint16_t opcode = (uint16_t)(avr->flash[avr->pc] | (avr->flash[avr->pc + 1] << 8));
    return (opcode & 0xFE0F) == 0xBE0D;
}

/* Sees frames that are reserved but never touched. */
static void on_stack_pointer(avr_t *avr, avr_io_addr_t address, uint8_t value, void *unused)
{
    (void)unused;
    avr->data[address] = value;
    uint16_t sp = stack_pointer(avr);
    if (bench.timing && sp < bench.sp_lowest && allocates_frame(avr))
        bench.sp_lowest = sp;
}

static void run_bench(avr_t *avr, uint64_t limit)
{
    int state = cpu_Running;
    while (!bench.finished && state != cpu_Done && state != cpu_Crashed) {
        state = avr_run(avr);
        if (avr->cycle - bench.asked_at > limit)
            fail("row %llu: no answer after %llu cycles", (unsigned long long)bench.total_rows - bench.in_row,
                 (unsigned long long)limit);
    }
    if (bench.finished)
        return;
    unsigned long long row = bench.total_rows - (bench.total_rows > 0);
    if (state == cpu_Done)
        fail("row %llu: the program went to sleep", row);
    fail("row %llu: the program crashed at address 0x%x with its stack pointer at 0x%x", row,
         (unsigned)avr->pc, stack_pointer(avr));
}

/* --- serial ----------------------------------------------------------------------------------- */

static struct {
    const char *until;
    size_t matched;
    int seen, ready;
    avr_irq_t *input;
} serial;

static void on_sent(struct avr_irq_t *irq, uint32_t value, void *parameter)
{
    (void)irq;
    char character = (char)value;
    fputc(character, answers);
    /* Good enough for texts whose first character does not come again. */
    serial.matched = character == serial.until[serial.matched] ? serial.matched + 1
                     : character == serial.until[0]            ? 1
                                                               : 0;
    if (serial.until[0] && !serial.until[serial.matched]) {
        serial.seen = 1;
        ((avr_t *)parameter)->state = cpu_Done;
    }
}

static void on_ready(struct avr_irq_t *irq, uint32_t value, void *unused)
{
    (void)irq, (void)value, (void)unused;
    serial.ready = 1;
    while (serial.ready) {
        int character = getchar();
        if (character == EOF)
            return;
        avr_raise_irq(serial.input, (uint32_t)character);
    }
}

static void on_full(struct avr_irq_t *irq, uint32_t value, void *unused)
{
    (void)irq, (void)value, (void)unused;
    serial.ready = 0;
}

static void connect_uart(avr_t *avr)
{
    uint32_t flags = 0;
    avr_ioctl(avr, AVR_IOCTL_UART_GET_FLAGS('0'), &flags);
    flags &= ~(uint32_t)(AVR_UART_FLAG_STDIO | AVR_UART_FLAG_POLL_SLEEP);
    avr_ioctl(avr, AVR_IOCTL_UART_SET_FLAGS('0'), &flags);
    uint32_t port = AVR_IOCTL_UART_GETIRQ('0');
    avr_irq_t *output = avr_io_getirq(avr, port, UART_IRQ_OUTPUT);
    if (!output)
        fail("this chip has no UART");
    serial.input = avr_io_getirq(avr, port, UART_IRQ_INPUT);
    avr_irq_register_notify(output, on_sent, avr);
    avr_irq_register_notify(avr_io_getirq(avr, port, UART_IRQ_OUT_XON), on_ready, NULL);
    avr_irq_register_notify(avr_io_getirq(avr, port, UART_IRQ_OUT_XOFF), on_full, NULL);
}

static void run_serial(avr_t *avr, uint64_t limit)
{
    int state = cpu_Running;
    while (!serial.seen && state != cpu_Done && state != cpu_Crashed && avr->cycle < limit)
        state = avr_run(avr);
    if (state == cpu_Crashed && !serial.seen)
        fail("the program crashed at address 0x%x", (unsigned)avr->pc);
}

/* --- both ------------------------------------------------------------------------------------- */

static void keep_quiet(avr_t *avr, const int level, const char *format, va_list list)
{
    (void)avr, (void)level, (void)format, (void)list;
}

static avr_t *load(const char *elf, const char *mcu, uint32_t hz, uint32_t flash, uint32_t extra_ram)
{
    elf_firmware_t firmware = {0};
    avr_global_logger_set(keep_quiet);
    if (elf_read_firmware(elf, &firmware))
        fail("the ELF cannot be read");
    avr_t *avr = avr_make_mcu_by_name(mcu);
    if (!avr)
        fail("this version of simavr does not know the %s", mcu);
    if (flash > avr->flashend + 1)
        avr->flashend = flash - 1;
    avr->ramend = (uint16_t)(avr->ramend + extra_ram);
    avr_init(avr);
    firmware.frequency = avr->frequency = hz;
    avr_load_firmware(avr, &firmware);
    /* The default limit of one cycle makes the simulation a hundred times slower. The cycle counter
       is kept after every instruction whatever the limit, so marks see the exact count. */
    avr->run_cycle_limit = avr->run_cycle_count = 100000;
    return avr;
}

static uint32_t number(const char *text)
{
    return (uint32_t)strtoul(text, NULL, 0);
}

int main(int argc, char **argv)
{
    answers = fdopen(dup(1), "wb");
    dup2(2, 1);
    if (argc == 14 && !strcmp(argv[1], "bench")) {
        avr_t *avr = load(argv[2], argv[3], number(argv[4]), number(argv[12]), number(argv[13]));
        bench.end = (uint16_t)number(argv[7]);
        bench.row = (uint16_t)number(argv[8]);
        bench.model = (uint16_t)number(argv[9]);
        bench.scores = (uint16_t)number(argv[10]);
        bench.decision = (uint16_t)number(argv[11]);
        avr_register_io_write(avr, (avr_io_addr_t)number(argv[6]), on_mark, NULL);
        avr_register_io_write(avr, R_SPL, on_stack_pointer, NULL);
        run_bench(avr, strtoull(argv[5], NULL, 0));
    } else if (argc == 7 && !strcmp(argv[1], "serial")) {
        avr_t *avr = load(argv[2], argv[3], number(argv[4]), 0, 0);
        serial.until = argv[6];
        connect_uart(avr);
        run_serial(avr, strtoull(argv[5], NULL, 0));
    } else {
        return 2;
    }
    return fclose(answers) ? 2 : 0;
}
