/* What the spawn workload executes: a static program that ends at once. */
int main(void)
{
	return 0;
}
